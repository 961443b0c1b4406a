package directory

import (
	"slices"
	"strings"

	"understudy/internal/address"
)

// OutboundAccount is a login of a customer's servers, which may send with any
// address of its domains. It is no mailbox: it signs in at submission alone.
type OutboundAccount struct {
	ID        int64   `db:"id" json:"id"`
	Name      string  `db:"name" json:"name"` // lower case, never with an '@'
	DomainIDs []int64 `db:"domain_ids" json:"domain_ids"`
	Enabled   bool    `db:"enabled" json:"enabled"`
	PerHour   int     `db:"per_hour" json:"per_hour"` // recipients; 0: policyd's default
	PerDay    int     `db:"per_day" json:"per_day"`
	Hash      string  `db:"hash" json:"hash,omitempty"` // Argon2id in PHC string format; "" unless the follower loads credentials
	Version   int64   `db:"version" json:"version"`
}

// SendLimit is a domain's own limits, in recipients; 0 is policyd's default.
type SendLimit struct {
	ID             int64 `db:"id" json:"id"` // of the domain
	MailboxPerHour int   `db:"mailbox_per_hour" json:"mailbox_per_hour"`
	MailboxPerDay  int   `db:"mailbox_per_day" json:"mailbox_per_day"`
	NetworkPerHour int   `db:"network_per_hour" json:"network_per_hour"`
	NetworkPerDay  int   `db:"network_per_day" json:"network_per_day"`
	Version        int64 `db:"version" json:"version"`
}

// outboundAccounts are the accounts by each key they are looked up by.
type outboundAccounts struct {
	byID     map[int64]*OutboundAccount
	byName   map[string]*OutboundAccount
	byDomain map[int64][]*OutboundAccount
}

func newOutboundAccounts() outboundAccounts {
	return outboundAccounts{byID: map[int64]*OutboundAccount{}, byName: map[string]*OutboundAccount{}, byDomain: map[int64][]*OutboundAccount{}}
}

func (o *outboundAccounts) put(x *OutboundAccount) {
	o.byID[x.ID], o.byName[x.Name] = x, x
	for _, id := range x.DomainIDs {
		o.byDomain[id] = append(slices.Clone(o.byDomain[id]), x)
	}
}

func (o *outboundAccounts) remove(id int64) {
	x := o.byID[id]
	if x == nil {
		return
	}
	delete(o.byID, id)
	if o.byName[x.Name] == x {
		delete(o.byName, x.Name)
	}
	for _, d := range x.DomainIDs {
		if rest := without(o.byDomain[d], x); len(rest) > 0 {
			o.byDomain[d] = rest
		} else {
			delete(o.byDomain, d)
		}
	}
}

// applyOutbound and removeOutbound are Apply's and remove's part in this.
func (d *tables) applyOutbound(c *Change) {
	for _, x := range c.Outbound {
		d.accounts.remove(x.ID)
		d.accounts.put(x)
	}
	for _, x := range c.Limits {
		d.limits[x.ID] = x
	}
}

func (d *tables) removeOutbound(kind string, id int64) {
	if kind == "send_limit" {
		delete(d.limits, id)
		return
	}
	d.accounts.remove(id)
}

// OutboundAccount finds an account by its login, in any case, nil if there is
// none.
func (d *Directory) OutboundAccount(login string) *OutboundAccount {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.accounts.byName[strings.ToLower(login)]
}

// OutboundAccounts returns the accounts that may send as a domain.
func (d *Directory) OutboundAccounts(domainID int64) []*OutboundAccount {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.accounts.byDomain[domainID]
}

// AccountMaySend reports whether a login is an outbound account that may send
// with this sender, which is then its customer's outbound mail. Everybody may
// send bounces, which have the null sender.
func (d *Directory) AccountMaySend(login string, sender address.Address) bool {
	x := d.OutboundAccount(login)
	if x == nil || !x.Enabled || sender.IsZero() {
		return x != nil && x.Enabled
	}
	dom, ok := d.Domain(sender.Domain)
	return ok && slices.Contains(x.DomainIDs, dom.ID)
}

// SendLimit returns a domain's own limits, all 0 if it has none.
func (d *Directory) SendLimit(domainID int64) SendLimit {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.limits[domainID]; x != nil {
		return *x
	}
	return SendLimit{ID: domainID}
}
