package socketmap

import (
	"strings"
	"sync"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/nexthop"
	"understudy/policyd/outcome"
)

// Deliveries answers smtp_delivery_status_filter (postconf(5)): it learns the
// result of each delivery, and lets refusals that are not about a message be
// temporary, so that the message waits and moves to the portal when its
// domain switches, in place of bouncing.
//
// Only for domains of activation "automatic": "delivery_status_auto" is asked
// by relay-auto, which carries these alone; "delivery_status_hold" by
// relay-hold, where the host must be a primary of one, or an MX host of one.
// What Postfix finds by itself (a name that is gone, a loop) is temporary for
// every domain.
//
// When policyd does not answer, Postfix keeps the result as it is.
type Deliveries struct {
	Directory *directory.Directory
	Ring      *evidence.Ring

	doubts outcome.Doubts
	hosts  hosts
	mx     mailHosts
}

var (
	asItIs   = reply{"NOTFOUND", "", "pass"}
	worksFor = reply{"NOTFOUND", "", "success"}
)

func (d *Deliveries) auto(key string) reply { return d.answer(key, true, time.Now()) }
func (d *Deliveries) hold(key string) reply { return d.answer(key, false, time.Now()) }

// expect prepares for the results of a domain that is about to get mail.
func (d *Deliveries) expect(to *directory.Domain) {
	if d != nil && to.Activation == directory.Automatic {
		d.mx.expect(to, time.Now())
	}
}

func (d *Deliveries) answer(key string, auto bool, now time.Time) reply {
	if strings.HasPrefix(key, "2.") {
		return worksFor
	}
	o := outcome.Parse(key)
	if auto && !strings.HasPrefix(o.Status, "5") {
		return asItIs // of re-entry, which was tried last: it has told already
	}
	if o.Class != "" && o.Host != "" {
		d.Ring.Add(evidence.Event{At: now.UTC(), Host: o.Host, Class: o.Class, Said: o.Said})
	}
	if o.Verdict == outcome.Pass {
		return asItIs
	}
	of := d.hosts.find(d.Directory, o.Host, d.mx.behind(o.Host), now)
	switch {
	case !auto && !of.automatic && !o.Own:
		return asItIs
	case o.Verdict == outcome.Doubt && !of.emergency && !d.doubts.Soften(o.Host, now):
		return asItIs
	}
	return reply{"OK", outcome.Softened(key), "softened"}
}

// hostOf says what the domains of a host have in common.
type hostOf struct {
	automatic bool // one of them is
	emergency bool // an automatic one is in emergency
}

func (a hostOf) and(b hostOf) hostOf {
	return hostOf{a.automatic || b.automatic, a.emergency || b.emergency}
}

// hostsFresh is how old the index may be while the directory changes.
const hostsFresh = time.Second

// hosts is an index of the directory's primaries.
type hosts struct {
	mu      sync.Mutex
	version int64
	built   time.Time
	of      map[string]hostOf // by host, or "mx:NAME"
}

// find looks up a host, which is an MX host of these names.
func (h *hosts) find(dir *directory.Directory, host string, mx []string, now time.Time) hostOf {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := dir.Version(); h.of == nil || v != h.version && now.Sub(h.built) >= hostsFresh {
		h.of, h.version, h.built = map[string]hostOf{}, v, now
		for _, d := range dir.Domains() {
			if d.Activation != directory.Automatic {
				continue
			}
			for _, p := range d.Primaries {
				hop, err := nexthop.Parse(p)
				if err != nil {
					continue
				}
				key := hop.Host
				if hop.MX {
					key = mxPrefix + hop.Host
				}
				h.of[key] = h.of[key].and(hostOf{true, d.Mode == directory.Emergency})
			}
		}
	}
	of := h.of[host]
	for _, name := range mx {
		of = of.and(h.of[mxPrefix+name])
	}
	return of
}
