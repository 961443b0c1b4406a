// Package nexthop reads the primaries of a domain as they are written in the
// directory, and finds the hosts behind them:
//
//	mail.example.org:25      this host
//	[2001:db8::1]:25         this address
//	mx:in.example.org        the MX hosts of that name, at port 25 (RFC 5321 section 5.1)
//	mx:in.example.org:2525   the same, at another port
//
// Postfix asks the DNS itself for each delivery; only programs that speak to
// a primary without Postfix (probe, drain, redelivery) ask it here. When it
// does not answer that is an error of this one attempt.
package nexthop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"understudy/internal/address"
)

const (
	mxPrefix = "mx:"
	smtpPort = 25
	maxHosts = 5 // of one name: Postfix's smtp_mx_address_limit
)

// Hop is one primary.
type Hop struct {
	MX   bool   // Host is a name whose MX hosts are meant
	Host string // a name, or an IP address without brackets
	Port uint16
}

// Parse reads a primary, in whatever form a person may write it. The error
// has words for that person.
func Parse(s string) (Hop, error) {
	s = strings.TrimSpace(s)
	if h, ok, err := parseMX(s); ok {
		return h, err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Hop{}, fmt.Errorf("primary %q; write it as HOST:PORT, such as mail.example.org:25 or [2001:db8::1]:25, or as mx:NAME for the MX hosts of a name", s)
	}
	number, err := parsePort(s, port)
	if err != nil {
		return Hop{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return Hop{Host: ip.String(), Port: number}, nil
	}
	name, err := address.Domain(host)
	if err != nil || strings.HasPrefix(name, "[") {
		return Hop{}, fmt.Errorf("primary %q: %q is neither a host name nor an IP address", s, host)
	}
	return Hop{Host: name, Port: number}, nil
}

// parseMX reads "mx:NAME" and "mx:NAME:PORT"; ok says that it is one of these.
// A name has a dot: "mx:25" is port 25 of a host called mx.
func parseMX(s string) (h Hop, ok bool, err error) {
	if len(s) < len(mxPrefix) || !strings.EqualFold(s[:len(mxPrefix)], mxPrefix) || !strings.ContainsAny(s, ".") {
		return Hop{}, false, nil
	}
	name, port, found := strings.Cut(s[len(mxPrefix):], ":")
	h = Hop{MX: true, Port: smtpPort}
	if found {
		if h.Port, err = parsePort(s, port); err != nil {
			return Hop{}, true, err
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return Hop{}, true, fmt.Errorf("primary %q: an IP address has no MX hosts; write it as %s:25", s, name)
	}
	if h.Host, err = address.Domain(name); err != nil || strings.HasPrefix(h.Host, "[") || !strings.Contains(h.Host, ".") {
		return Hop{}, true, fmt.Errorf("primary %q: %q is no domain name", s, name)
	}
	return h, true, nil
}

func parsePort(s, port string) (uint16, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("primary %q: port %q is not between 1 and 65535", s, port)
	}
	return uint16(n), nil
}

// String writes the primary in its one form; Parse reads it back.
func (h Hop) String() string {
	port := strconv.Itoa(int(h.Port))
	switch {
	case h.MX && h.Port == smtpPort:
		return mxPrefix + h.Host
	case h.MX:
		return mxPrefix + h.Host + ":" + port
	}
	return net.JoinHostPort(h.Host, port)
}

// Postfix writes the primary as a next hop of transport(5): brackets keep
// Postfix from looking for MX records.
func (h Hop) Postfix() string {
	port := strconv.Itoa(int(h.Port))
	switch {
	case h.MX:
		return h.Host + ":" + port
	case strings.Contains(h.Host, ":"):
		return "[ipv6:" + h.Host + "]:" + port
	}
	return "[" + h.Host + "]:" + port
}

// Hosts returns the "host:port" behind the primary, in the order in which
// they are to be tried.
func (h Hop) Hosts(ctx context.Context) ([]string, error) {
	if !h.MX {
		return []string{h.String()}, nil
	}
	records, err := net.DefaultResolver.LookupMX(ctx, h.Host)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		records, err = []*net.MX{{Host: h.Host}}, nil // RFC 5321 section 5.1: its own address then
	}
	if err != nil && len(records) == 0 {
		return nil, fmt.Errorf("look up MX hosts of %s: %w", h.Host, err)
	}
	var out []string
	port := strconv.Itoa(int(h.Port))
	for _, r := range records { // sorted by preference, equal ones at random
		name := strings.TrimSuffix(r.Host, ".")
		if name == "" {
			return nil, fmt.Errorf("look up MX hosts of %s: it takes no mail (null MX)", h.Host) // RFC 7505
		}
		if at := net.JoinHostPort(name, port); !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out[:min(len(out), maxHosts)], nil
}

// Hosts returns what is behind a primary as the directory writes it.
func Hosts(ctx context.Context, primary string) ([]string, error) {
	h, err := Parse(primary)
	if err != nil {
		return nil, err
	}
	return h.Hosts(ctx)
}
