package directory

import "net/netip"

// tables are the rows, by each key they are looked up by.
type tables struct {
	domains     map[int64]*Domain
	byName      map[string]*Domain
	mailboxes   map[int64]*Mailbox
	byAddress   map[string]*Mailbox
	aliases     map[int64]*Alias
	byAlias     map[string]*Alias
	credentials map[int64]*Credential
	byMailbox   map[int64][]*Credential
	outbound    map[netip.Addr][]*Domain // single-address networks: the usual case, looked up at once
	networks    []*Domain                // domains with wider outbound networks
	accounts    outboundAccounts
	limits      map[int64]*SendLimit // by domain
}

// newTables returns empty tables with room for what a full change brings.
func newTables(c *Change) tables {
	return tables{
		domains: make(map[int64]*Domain, len(c.Domains)), byName: make(map[string]*Domain, len(c.Domains)),
		mailboxes: make(map[int64]*Mailbox, len(c.Mailboxes)), byAddress: make(map[string]*Mailbox, len(c.Mailboxes)),
		aliases: make(map[int64]*Alias, len(c.Aliases)), byAlias: make(map[string]*Alias, len(c.Aliases)),
		credentials: make(map[int64]*Credential, len(c.Credentials)), byMailbox: make(map[int64][]*Credential, len(c.Credentials)),
		outbound: map[netip.Addr][]*Domain{}, accounts: newOutboundAccounts(), limits: map[int64]*SendLimit{},
	}
}
