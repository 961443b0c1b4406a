package socketmap

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/internal/directory"
	"understudy/internal/nexthop"
)

const (
	mxPrefix  = "mx:"
	mxFor     = 10 * time.Minute // from one look at the MX records of a name to the next
	mxTimeout = 10 * time.Second
	maxMX     = 100_000 // names; with more all are learnt anew
	maxAsking = 64      // at once
)

// mailHosts knows which hosts are behind primaries written "mx:NAME", since
// results name a host alone. A name is asked for when Postfix asks where mail
// for its domain goes: Postfix is then about to look up the same records, and
// has a whole dialogue before it that ends in a result. What the DNS does not
// tell is asked again with the next message.
type mailHosts struct {
	mu     sync.Mutex
	names  map[string]mxName
	of     map[string][]string // names, by host
	asking int
}

type mxName struct {
	hosts  []string
	at     time.Time // zero: not known
	asking bool
}

// expect learns the hosts of a domain that is about to get mail.
func (m *mailHosts) expect(d *directory.Domain, now time.Time) {
	for _, p := range d.Primaries {
		if !strings.HasPrefix(p, mxPrefix) {
			continue
		}
		if hop, err := nexthop.Parse(p); err == nil && hop.MX && m.begin(hop.Host, now) {
			go m.ask(hop)
		}
	}
}

// begin reports whether a name is to be asked for.
func (m *mailHosts) begin(name string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n.asking || m.asking >= maxAsking || !n.at.IsZero() && now.Sub(n.at) < mxFor {
		return false
	}
	if m.names == nil || len(m.names) >= maxMX {
		m.names, m.of = map[string]mxName{}, map[string][]string{}
	}
	n.asking = true
	m.names[name] = n
	m.asking++
	return true
}

func (m *mailHosts) ask(hop nexthop.Hop) {
	ctx, cancel := context.WithTimeout(context.Background(), mxTimeout)
	defer cancel()
	hosts, err := hop.Hosts(ctx)
	for i, at := range hosts {
		host, _, _ := net.SplitHostPort(at)
		hosts[i] = strings.ToLower(host)
	}
	m.end(hop.Host, hosts, err, time.Now())
}

// end keeps the answer. After an error the last one stays.
func (m *mailHosts) end(name string, hosts []string, err error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asking--
	n := m.names[name]
	n.asking = false
	if err != nil {
		n.at = time.Time{}
		m.names[name] = n
		return
	}
	for _, host := range n.hosts {
		rest := slices.DeleteFunc(slices.Clone(m.of[host]), func(s string) bool { return s == name })
		if m.of[host] = rest; len(rest) == 0 {
			delete(m.of, host)
		}
	}
	for _, host := range hosts {
		m.of[host] = append(slices.Clone(m.of[host]), name) // a reader may hold the old one
	}
	m.names[name] = mxName{hosts: hosts, at: now}
}

// behind returns the names that have a host among their MX hosts.
func (m *mailHosts) behind(host string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[host]
}
