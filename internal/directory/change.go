package directory

import "slices"

// Change is a set of rows newer than what a directory holds, or, when Full,
// everything. As JSON it is a line of a saved directory.
type Change struct {
	Full        bool               `json:"full,omitempty"`
	Epoch       string             `json:"epoch,omitempty"`   // of the database; a new one forces a full load
	Mark        string             `json:"mark,omitempty"`    // of the newest change: an unknown one forces a full load too
	Version     int64              `json:"version,omitempty"` // of the newest row
	Domains     []*Domain          `json:"domains,omitempty"`
	Mailboxes   []*Mailbox         `json:"mailboxes,omitempty"`
	Aliases     []*Alias           `json:"aliases,omitempty"`
	Credentials []*Credential      `json:"credentials,omitempty"`
	Outbound    []*OutboundAccount `json:"outbound,omitempty"`
	Limits      []*SendLimit       `json:"limits,omitempty"`
	Deleted     []Deleted          `json:"deleted,omitempty"`
}

// Deleted names a row that is gone.
type Deleted struct {
	Kind    string `db:"kind" json:"kind"` // the table: "domain", "mailbox", "alias", "credential", "outbound_account", "send_limit"
	ID      int64  `db:"id" json:"id"`
	Version int64  `db:"version" json:"version"`
}

// Empty reports whether the change brings nothing new.
func (c *Change) Empty() bool {
	return !c.Full && len(c.Domains)+len(c.Mailboxes)+len(c.Aliases)+len(c.Credentials)+len(c.Outbound)+len(c.Limits)+len(c.Deleted) == 0
}

// Apply puts a change into memory at once: no lookup sees half of it, and none
// waits while everything is put in order anew.
func (d *Directory) Apply(c *Change) {
	var all tables
	if c.Full {
		all = newTables(c)
		all.apply(c)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.Full {
		d.tables = all
	} else {
		d.apply(c)
	}
	d.past, d.loaded = past{c.Epoch, c.Mark, c.Version}, true
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *tables) apply(c *Change) {
	// Deletions first: a name may have been freed and taken again.
	for _, x := range c.Deleted {
		d.remove(x.Kind, x.ID)
	}
	for _, x := range c.Domains {
		d.remove("domain", x.ID)
		d.domains[x.ID], d.byName[x.Name] = x, x
		d.addNetworks(x)
	}
	for _, x := range c.Mailboxes {
		d.remove("mailbox", x.ID)
		d.mailboxes[x.ID], d.byAddress[x.Address] = x, x
	}
	for _, x := range c.Aliases {
		d.remove("alias", x.ID)
		d.aliases[x.ID], d.byAlias[x.Address] = x, x
	}
	for _, x := range c.Credentials {
		d.remove("credential", x.ID)
		d.credentials[x.ID] = x
		d.byMailbox[x.MailboxID] = append(slices.Clone(d.byMailbox[x.MailboxID]), x)
	}
	d.applyOutbound(c)
}

func (d *tables) addNetworks(x *Domain) {
	wide := false
	for _, p := range x.OutboundNetworks {
		if p.IsSingleIP() {
			d.outbound[p.Addr()] = append(slices.Clone(d.outbound[p.Addr()]), x)
		} else {
			wide = true
		}
	}
	if wide {
		d.networks = append(slices.Clone(d.networks), x)
	}
}

// remove takes a row out of every map, but leaves a name alone that another
// row has taken since.
func (d *tables) remove(kind string, id int64) {
	switch kind {
	case "domain":
		x := d.domains[id]
		if x == nil {
			return
		}
		delete(d.domains, id)
		if d.byName[x.Name] == x {
			delete(d.byName, x.Name)
		}
		for _, p := range x.OutboundNetworks {
			if p.IsSingleIP() {
				d.outbound[p.Addr()] = without(d.outbound[p.Addr()], x)
			}
		}
		d.networks = without(d.networks, x)
	case "mailbox":
		x := d.mailboxes[id]
		if x == nil {
			return
		}
		delete(d.mailboxes, id)
		if d.byAddress[x.Address] == x {
			delete(d.byAddress, x.Address)
		}
	case "alias":
		x := d.aliases[id]
		if x == nil {
			return
		}
		delete(d.aliases, id)
		if d.byAlias[x.Address] == x {
			delete(d.byAlias, x.Address)
		}
	case "outbound_account", "send_limit":
		d.removeOutbound(kind, id)
	case "credential":
		x := d.credentials[id]
		if x == nil {
			return
		}
		delete(d.credentials, id)
		if rest := without(d.byMailbox[x.MailboxID], x); len(rest) > 0 {
			d.byMailbox[x.MailboxID] = rest
		} else {
			delete(d.byMailbox, x.MailboxID)
		}
	}
}

func without[T comparable](s []T, x T) []T {
	out := make([]T, 0, len(s))
	for _, y := range s {
		if y != x {
			out = append(out, y)
		}
	}
	return out
}
