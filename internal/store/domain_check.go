package store

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/nexthop"
)

// The bounds of settings, as in the schema.
const (
	maxPrimaries     = 16
	maxNetworks      = 256
	maxRetentionDays = 3650
	defaultRetention = 90
)

// invalid is ErrInvalid with words for the person who typed the value.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// checkDomain fills in defaults, writes values in their one form and refuses
// what cannot work.
func checkDomain(d *directory.Domain) error {
	name, err := address.Domain(d.Name)
	if err != nil || strings.HasPrefix(name, "[") || !strings.Contains(name, ".") {
		return invalid("%q is no domain name; write it as in an address, such as example.org", d.Name)
	}
	d.Name = name
	if d.Primaries, err = checkPrimaries(d.Primaries); err != nil {
		return err
	}
	if d.Activation == "" {
		d.Activation = directory.Manual
	}
	if !slices.Contains([]directory.Activation{directory.Manual, directory.Observe, directory.Automatic}, d.Activation) {
		return invalid("activation %q; it is one of manual, observe, automatic", d.Activation)
	}
	if d.Scope == "" {
		d.Scope = directory.ScopeAll
	}
	if d.Scope != directory.ScopeAll && d.Scope != directory.ScopeSelected {
		return invalid("scope %q; it is one of all, selected", d.Scope)
	}
	if d.RetentionDays == 0 {
		d.RetentionDays = defaultRetention
	}
	if d.RetentionDays < 1 || d.RetentionDays > maxRetentionDays {
		return invalid("retention of %d days; it is between 1 and %d days", d.RetentionDays, maxRetentionDays)
	}
	if len(d.OutboundNetworks) > maxNetworks {
		return invalid("%d outbound networks; at most %d are possible", len(d.OutboundNetworks), maxNetworks)
	}
	if d.OutboundNetworks == nil {
		d.OutboundNetworks = []netip.Prefix{}
	}
	return checkDetection(d)
}

func checkPrimaries(in []string) ([]string, error) {
	if len(in) == 0 {
		return nil, invalid("a domain needs a primary: the mail server that its mail normally goes to, as HOST:PORT or mx:NAME")
	}
	if len(in) > maxPrimaries {
		return nil, invalid("%d primaries; at most %d are possible", len(in), maxPrimaries)
	}
	var out []string
	for _, p := range in {
		hostPort, err := parsePrimary(p)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, hostPort) {
			return nil, invalid("primary %s is given twice", hostPort)
		}
		out = append(out, hostPort)
	}
	return out, nil
}

// parsePrimary returns a primary in its one form.
func parsePrimary(s string) (string, error) {
	h, err := nexthop.Parse(s)
	if err != nil {
		return "", invalid("%v", err)
	}
	return h.String(), nil
}

// ParseNetworks reads networks in CIDR form; a single address is a network
// of itself.
func ParseNetworks(in []string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	for _, s := range in {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if ip, single := netip.ParseAddr(s); single == nil {
			p, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return nil, invalid("network %q; write it as ADDRESS/BITS, such as 192.0.2.0/24 or 2001:db8::/64", s)
		}
		if p.Bits() == 0 {
			return nil, invalid("network %s is the whole internet: anybody could send as this domain", p)
		}
		if p = p.Masked(); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// ParseRetention reads a number of days: "90d" or "90".
func ParseRetention(s string) (int, error) {
	days, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(s), "d"))
	if err != nil || days < 1 || days > maxRetentionDays {
		return 0, invalid("retention %q; write days, such as 90d, between 1d and %dd", s, maxRetentionDays)
	}
	return days, nil
}
