package directory

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"understudy/internal/address"
)

// Directory answers lookups from memory. All methods may be called at once
// from many goroutines. What they return must not be changed by the caller.
type Directory struct {
	mu      sync.RWMutex
	past    past
	loaded  bool
	changed chan struct{} // closed and replaced at every change
	tables
}

// New returns an empty directory that is not yet Loaded.
func New() *Directory {
	return &Directory{changed: make(chan struct{}), tables: newTables(&Change{})}
}

// Loaded reports whether the directory was ever filled, from PostgreSQL or
// from its file. Until then every mail decision must be a temporary failure:
// "unknown" would refuse mail that is ours.
func (d *Directory) Loaded() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.loaded
}

// Version is the newest change that is in memory.
func (d *Directory) Version() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.past.version
}

// Changed returns a channel that is closed at the next change.
func (d *Directory) Changed() <-chan struct{} {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.changed
}

// Domain finds a domain by its normalised name.
func (d *Directory) Domain(name string) (*Domain, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	dom, ok := d.byName[name]
	return dom, ok
}

// Domains returns all domains, sorted by name.
func (d *Directory) Domains() []*Domain {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.SortedFunc(maps.Values(d.domains), func(a, b *Domain) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

// Recipient says what is known of an address: its domain, its mailbox
// (through an alias if need be), and whether it is covered.
func (d *Directory) Recipient(a address.Address) Recipient {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r := Recipient{Address: a, Domain: d.byName[a.Domain]}
	if r.Domain == nil {
		return r
	}
	key := a.String()
	if r.Mailbox = d.byAddress[key]; r.Mailbox != nil {
		r.Refused = r.Mailbox.Refused
	} else if alias := d.byAlias[key]; alias != nil {
		r.Mailbox, r.Refused = d.mailboxes[alias.MailboxID], alias.Refused
	}
	r.Registered = r.Mailbox != nil
	r.Covered = r.Domain.Scope == ScopeAll || r.Registered && r.Mailbox.Covered
	return r
}

// Mailboxes returns the registered mailboxes of some domains, sorted by
// address. It walks all mailboxes, once: not for the mail path, nor for each
// of many domains.
func (d *Directory) Mailboxes(domainIDs ...int64) []*Mailbox {
	wanted := make(map[int64]bool, len(domainIDs))
	for _, id := range domainIDs {
		wanted[id] = true
	}
	var out []*Mailbox
	d.mu.RLock()
	for _, m := range d.mailboxes {
		if wanted[m.DomainID] {
			out = append(out, m)
		}
	}
	d.mu.RUnlock()
	slices.SortFunc(out, func(a, b *Mailbox) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// Credentials returns the password hashes of a mailbox. Empty unless the
// follower was told to load them.
func (d *Directory) Credentials(mailboxID int64) []*Credential {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.byMailbox[mailboxID])
}

// OutboundDomains returns the domains whose own servers send from ip.
func (d *Directory) OutboundDomains(ip netip.Addr) []*Domain {
	ip = ip.Unmap()
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := slices.Clone(d.outbound[ip])
	for _, dom := range d.networks {
		if slices.ContainsFunc(dom.OutboundNetworks, func(p netip.Prefix) bool { return !p.IsSingleIP() && p.Contains(ip) }) {
			out = append(out, dom)
		}
	}
	return out
}

// MayRelay reports whether a client at ip is a server of the customer that
// owns the sender's domain, so that its mail is that customer's outbound mail.
func (d *Directory) MayRelay(ip netip.Addr, sender address.Address) bool {
	return slices.ContainsFunc(d.OutboundDomains(ip), func(dom *Domain) bool { return dom.Name == sender.Domain })
}
