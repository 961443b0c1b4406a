package monitor

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"understudy/internal/directory"
	"understudy/internal/nexthop"
)

const (
	hostsFor    = 10 * time.Minute // from one look at the MX records to the next
	hostTimeout = 5 * time.Second

	maxNeighbours = 1000 // domains on one host that are counted together
)

// learnHosts registers under which host names Postfix speaks of a domain's
// primaries. Names that the DNS does not tell now are learnt later.
func (w *watcher) learnHosts(ctx context.Context, d *directory.Domain) {
	if slices.Equal(w.primaries, d.Primaries) && time.Since(w.hostsAt) < hostsFor {
		return
	}
	w.primaries, w.hostsAt = d.Primaries, time.Now()
	var names []string
	for _, p := range d.Primaries {
		h, err := nexthop.Parse(p)
		if err != nil {
			continue
		}
		if !h.MX {
			names = append(names, strings.ToLower(h.Host))
			continue
		}
		ask, cancel := context.WithTimeout(ctx, hostTimeout)
		hosts, err := h.Hosts(ask)
		cancel()
		if err != nil {
			w.hostsAt = time.Time{}
		}
		for _, at := range hosts {
			if name, _, err := net.SplitHostPort(at); err == nil {
				names = append(names, strings.ToLower(name))
			}
		}
	}
	w.term.mu.Lock()
	defer w.term.mu.Unlock()
	w.forgetHosts()
	for _, name := range names {
		if w.byHost[name] == nil {
			w.byHost[name] = map[*watcher]bool{}
		}
		w.byHost[name][w] = true
	}
	w.hosts = names
}

// forgetHosts takes the watcher out of the index. The term's lock is held.
func (w *watcher) forgetHosts() {
	for _, name := range w.hosts {
		delete(w.byHost[name], w)
		if len(w.byHost[name]) == 0 {
			delete(w.byHost, name)
		}
	}
	w.hosts = nil
}

// neighbours are the domains on the same hosts whose mail goes there now, this
// one among them. Strangers tells that the hosts get mail that the index does
// not have: of mailboxes that are not covered, or of too many domains to ask.
func (w *watcher) neighbours() (names []string, strangers bool) {
	w.term.mu.Lock()
	near := map[string]bool{w.name: true}
	for _, host := range w.hosts {
		for other := range w.byHost[host] {
			if near[other.name] = true; len(near) > maxNeighbours {
				break
			}
		}
	}
	w.term.mu.Unlock()
	if len(near) > maxNeighbours {
		return nil, true
	}
	for name := range near {
		d, ok := w.Directory.Domain(name)
		if !ok {
			continue
		}
		if d.Scope == directory.ScopeSelected {
			return nil, true
		}
		if d.Mode == directory.Normal {
			names = append(names, name)
		}
	}
	return names, false
}
