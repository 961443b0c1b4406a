package cli

import (
	"slices"

	"understudy/internal/store"
)

// learning is what becomes of addresses that a domain's mail server has and
// nobody registered (docs/recipients.md).
type learning struct {
	Learn *string `placeholder:"off|offer|add" help:"What becomes of addresses that the mail server has and nobody registered: off; offer (ask people), the default; add (register at once)."`
}

// read checks the setting before anything is changed; "" is to leave it.
func (c *learning) read() (store.Learn, error) {
	if c.Learn == nil {
		return "", nil
	}
	learn := store.Learn(*c.Learn)
	if !slices.Contains([]store.Learn{store.LearnOff, store.LearnOffer, store.LearnAdd}, learn) {
		return "", usage("--learn %q; it is one of off, offer, add", *c.Learn)
	}
	return learn, nil
}

// domainShown is a domain with what is set beside it.
type domainShown struct {
	*store.Domain
	Learn store.Learn `json:"learn"`
}

// learned sets what is given, unless it is "", and returns the domain with what
// holds.
func learned(e *env, s *store.Store, d *store.Domain, learn store.Learn) (*domainShown, error) {
	if learn != "" {
		if err := s.SetLearn(e.ctx, d.Name, learn); err != nil {
			return nil, err
		}
	}
	known, err := s.RecipientDomain(e.ctx, d.Name)
	if err != nil {
		return nil, err
	}
	return &domainShown{d, known.Learn}, nil
}
