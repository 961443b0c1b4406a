package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"understudy/internal/directory"
)

// bound is what a setting of the detector may be, as in the schema.
type bound struct {
	name     string
	from, to int
	seconds  bool
}

var (
	boundFailures = bound{"failed probes before an emergency", 1, 100, false}
	boundStorm    = bound{"refused deliveries before an emergency", 0, 100_000, false}
	boundProbe    = bound{"time between probes", 1, 3600, true}
	boundRecover  = bound{"healthy time before the return", 1, 86400, true}
)

func (b bound) write(n int) string {
	if b.seconds {
		return (time.Duration(n) * time.Second).String()
	}
	return strconv.Itoa(n)
}

func (b bound) check(v *int) error {
	if v != nil && (*v < b.from || *v > b.to) {
		return invalid("%s: %s; it is between %s and %s", b.name, b.write(*v), b.write(b.from), b.write(b.to))
	}
	return nil
}

// checkDetection refuses settings of the detector that cannot work.
func checkDetection(d *directory.Domain) error {
	for _, x := range []struct {
		bound bound
		value *int
	}{{boundFailures, d.DetectFailures}, {boundStorm, d.DetectStorm}, {boundProbe, d.ProbeSeconds}, {boundRecover, d.RecoverSeconds}} {
		if err := x.bound.check(x.value); err != nil {
			return err
		}
	}
	return nil
}

// parse reads a setting: "default" (or nothing) for none of its own, a number,
// or a time such as 90s or 2m.
func (b bound) parse(s string) (*Own, error) {
	s = strings.TrimSpace(s)
	if s == "" || s == "default" {
		return &Own{}, nil
	}
	n, err := strconv.Atoi(s)
	if b.seconds {
		var d time.Duration
		if d, err = time.ParseDuration(s); err == nil && d%time.Second != 0 {
			return nil, invalid("%s: %s; write whole seconds", b.name, s)
		}
		n = int(d / time.Second)
	}
	if err != nil && b.seconds {
		return nil, invalid("%s: %q; write a time such as 90s or 2m, or default", b.name, s)
	}
	if err != nil {
		return nil, invalid("%s: %q; write a number, or default", b.name, s)
	}
	if err := b.check(&n); err != nil {
		return nil, err
	}
	return &Own{&n}, nil
}

// Detection is a domain's settings of the detector as people write them;
// "default" is the worker's.
type Detection struct{ Failures, Storm, ProbeInterval, RecoverAfter string }

// DetectionOf writes the settings of a domain.
func DetectionOf(d *directory.Domain) Detection {
	write := func(b bound, v *int) string {
		if v == nil {
			return "default"
		}
		return b.write(*v)
	}
	return Detection{write(boundFailures, d.DetectFailures), write(boundStorm, d.DetectStorm),
		write(boundProbe, d.ProbeSeconds), write(boundRecover, d.RecoverSeconds)}
}

// SetDetection reads settings into a change; a nil one stays.
func (c *DomainChange) SetDetection(failures, storm, probeInterval, recoverAfter *string) error {
	for _, x := range []struct {
		bound bound
		text  *string
		to    **Own
	}{{boundFailures, failures, &c.DetectFailures}, {boundStorm, storm, &c.DetectStorm},
		{boundProbe, probeInterval, &c.ProbeSeconds}, {boundRecover, recoverAfter, &c.RecoverSeconds}} {
		if x.text == nil {
			continue
		}
		var err error
		if *x.to, err = x.bound.parse(*x.text); err != nil {
			return err
		}
	}
	return nil
}

// AcceptedSince counts for how many mailboxes of these domains mail was taken
// from elsewhere since a moment, as far as the index knows.
func (s *Store) AcceptedSince(ctx context.Context, domains []string, since time.Time) (n int, err error) {
	// In the order in which drop_empty_index_days locks: else each could wait for the other.
	err = s.Pool.QueryRow(ctx, `SELECT count(*) FROM message m JOIN message_mailbox x ON x.received = m.received AND x.id = m.id
		WHERE x.domain = ANY($1) AND x.received >= $2 AND m.direction <> 'outbound'`, domains, since).Scan(&n)
	return n, wrap("count accepted messages", err)
}
