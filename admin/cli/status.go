package cli

import (
	"context"
	"fmt"
	"strings"

	"understudy/admin/wording"
	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/store"
)

type statusCmd struct{}

// statusReport is what "status" shows.
type statusReport struct {
	OK      bool           `json:"ok"`
	Network *store.Vantage `json:"network"` // what the worker sees of its own network; null: nothing yet
	Domains []domainStatus `json:"domains"`
	Archive archiveStatus  `json:"archive"`
	Held    int64          `json:"held"` // messages of a drain that the primaries refused
}

type domainStatus struct {
	Name   string               `json:"name"`
	Mode   directory.Mode       `json:"mode"`
	Since  string               `json:"since"`
	Manual bool                 `json:"manual"`
	Setup  directory.Activation `json:"activation"`
	Reason string               `json:"reason,omitempty"` // of the newest change, or of what would have been changed
	Held   int64                `json:"held"`
	Health []store.HostHealth   `json:"health"`
}

// archiveStatus compares the archive's files with the index.
type archiveStatus struct {
	Error     string `json:"error,omitempty"` // why the files could not be read
	Segments  int    `json:"segments"`
	Bytes     int64  `json:"bytes"`
	Unindexed int64  `json:"unindexed"` // bytes
	Damaged   int64  `json:"damaged"`   // bytes that could not be read
}

// Run shows the state of everything. It fails when the database does not
// answer, its schema does not fit or the archive cannot be read; a domain in
// emergency is no failure.
func (statusCmd) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	r, err := readStatus(e.ctx, s, e.settings.ArchiveDirectory)
	if err != nil {
		return err
	}
	if err := e.print(r, "%s", r.text()); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("the archive cannot be read: %s", r.Archive.Error)
	}
	return nil
}

func readStatus(ctx context.Context, s *store.Store, dir string) (*statusReport, error) {
	r := &statusReport{Domains: []domainStatus{}}
	domains, err := s.Domains(ctx, store.Everything)
	if err != nil {
		return nil, err
	}
	if r.Network, err = s.Vantage(ctx); err != nil {
		return nil, err
	}
	for _, d := range domains {
		health, err := s.Health(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		drain, err := s.Counts(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		reason, err := newestReason(ctx, s, &d)
		if err != nil {
			return nil, err
		}
		r.Held += drain.Held
		r.Domains = append(r.Domains, domainStatus{Name: d.Name, Mode: d.Mode, Since: stamp(d.ModeSince), Manual: d.ModeManual,
			Setup: d.Activation, Reason: reason, Held: drain.Held, Health: health})
	}
	checkpoints, err := s.SegmentOffsets(ctx)
	if err != nil {
		return nil, err
	}
	segments, err := archive.Segments(dir)
	if err != nil {
		r.Archive.Error = err.Error()
	}
	r.OK = err == nil
	r.Archive.Segments = len(segments)
	for _, seg := range segments {
		at := checkpoints[seg.Name]
		r.Archive.Bytes += seg.Size
		r.Archive.Damaged += at.Damaged
		r.Archive.Unindexed += max(0, seg.Size-at.Indexed)
	}
	return r, nil
}

// newestReason is why a domain is in emergency, or would be.
func newestReason(ctx context.Context, s *store.Store, d *store.Domain) (string, error) {
	if d.Mode == directory.Normal && d.Activation != directory.Observe {
		return "", nil
	}
	line, err := s.Timeline(ctx, d.Name, 1)
	if err != nil || len(line) == 0 || line[0].To == directory.Normal {
		return "", err
	}
	return wording.Change(&line[0]), nil
}

func (r *statusReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Database: answers, its schema fits.\n")
	fmt.Fprintf(&b, "Archive:  %d segments, %d bytes, of them %d not in the index yet, %d unreadable.\n",
		r.Archive.Segments, r.Archive.Bytes, r.Archive.Unindexed, r.Archive.Damaged)
	fmt.Fprintf(&b, "Drain:    %d messages held because a primary refused them.\n", r.Held)
	if r.Network.Unusual() {
		fmt.Fprintf(&b, "Network:  %s (since %s)\n", r.Network.Detail, stamp(r.Network.Since))
	}
	fmt.Fprintf(&b, "Domains:  %d", len(r.Domains))
	for _, d := range r.Domains {
		fmt.Fprintf(&b, "\n  %s: %s since %s (activation %s)", d.Name, d.Mode, d.Since, d.Setup)
		if d.Reason != "" {
			fmt.Fprintf(&b, "\n    %s", d.Reason)
		}
		for _, h := range d.Health {
			fmt.Fprintf(&b, "\n    %s: %s since %s, checked %s %s", h.Host, h.Class, stamp(h.Since), stamp(h.CheckedAt), h.Detail)
		}
	}
	return b.String()
}
