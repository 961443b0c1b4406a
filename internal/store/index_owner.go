package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"understudy/internal/query"
)

// A message that a mailbox owner did not send is to them one that came from
// inside, whoever else it went to: that it left the house too may be for a
// blind recipient (Bcc), of whom they must not learn. So may be that it went to
// the primary and to the portal: then they are told neither.

// owner is the mailbox of an owner, "" for all others.
func (a Access) owner() string {
	if a.All || len(a.Domains) > 0 {
		return ""
	}
	return a.Mailbox
}

// asked is the query of a filter, as it is meant for who asks.
func (s *Store) asked(ctx context.Context, f *MessageFilter) (query.Node, error) {
	root := f.root()
	owner := f.Access.owner()
	if owner == "" || !asksWay(root) {
		return root, nil
	}
	rows, err := s.Pool.Query(ctx, `SELECT $1 UNION ALL SELECT a.address FROM alias a JOIN mailbox m ON m.id = a.mailbox_id WHERE m.address = $1`, clean(owner))
	if err != nil {
		return nil, err
	}
	own, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ownersView(root, own), err
}

// asksWay reports whether a query asks which way a message went.
func asksWay(n query.Node) bool {
	switch n := n.(type) {
	case query.And:
		for _, x := range n {
			if asksWay(x) {
				return true
			}
		}
	case query.Or:
		return asksWay(query.And(n))
	case query.Not:
		return asksWay(n.Of)
	case query.Direction, query.Route:
		return true
	}
	return false
}

// ownersView has a query look at which way a message went only of what the
// owner of these addresses sent.
func ownersView(n query.Node, own []string) query.Node {
	all := func(list []query.Node) (out []query.Node) {
		for _, x := range list {
			out = append(out, ownersView(x, own))
		}
		return out
	}
	var sent query.Or
	for _, a := range own {
		sent = append(sent, query.Address{Field: query.From, Text: query.Fold(a)})
	}
	const out = query.Direction("outbound")
	switch n := n.(type) {
	case query.And:
		return query.And(all(n))
	case query.Or:
		return query.Or(all(n))
	case query.Not:
		return query.Not{Of: ownersView(n.Of, own)}
	case query.Direction:
		switch n {
		case out:
			return query.And{n, sent}
		case "internal":
			return query.Or{n, query.And{out, query.Not{Of: sent}}}
		}
	case query.Route:
		if other, ok := otherWay[n]; ok { // to one of two ways, but not theirs
			return query.And{n, query.Or{sent, query.Not{Of: other}}}
		}
		return query.And{n, sent}
	}
	return n
}

// otherWay is where else a message may have gone that stayed in the house.
var otherWay = map[query.Route]query.Route{"primary": "portal", "portal": "primary"}
