// Package recipient looks up addresses as Postfix sends them: not yet
// normalised, and sometimes no addresses at all.
package recipient

import (
	"strings"

	"understudy/internal/address"
	"understudy/internal/directory"
)

// Find says what the directory knows of an address as table lookups have it:
// quoted where the client quoted it, and, after NOTFOUND, once more without.
//
// Text whose local part is not one we can hold ("a*b", 300 octets) but whose
// domain is ours is an unregistered recipient of that domain, not a stranger:
// as a stranger its mail would be routed by MX, which is this very host.
func Find(dir *directory.Directory, text string) directory.Recipient {
	return find(dir, text, address.Parse)
}

// FindUnquoted is Find for the attributes of policy requests, from which
// Postfix took the quotes away: what looks like one there is part of the name.
func FindUnquoted(dir *directory.Directory, text string) directory.Recipient {
	return find(dir, text, address.ParseUnquoted)
}

func find(dir *directory.Directory, text string, parse func(string) (address.Address, error)) directory.Recipient {
	a, err := parse(text)
	if err != nil {
		a = address.Address{Domain: domainOf(text)}
	}
	return dir.Recipient(a)
}

// domainOf gives the normalised domain of something like an address, "" if
// there is none.
func domainOf(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return ""
	}
	name, err := address.Domain(strings.TrimSuffix(text[at+1:], ">"))
	if err != nil {
		return ""
	}
	return name
}
