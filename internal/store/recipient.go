package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Learn says what becomes of addresses that a primary is found to have.
type Learn string

// The choices of a domain.
const (
	LearnOff   Learn = "off"
	LearnOffer Learn = "offer" // people are asked
	LearnAdd   Learn = "add"   // they are registered at once
)

// RecipientDomain is what is known of a domain's recipients.
type RecipientDomain struct {
	Learn      Learn      `db:"learn" json:"learn"`
	CatchAll   *bool      `db:"catch_all" json:"catch_all"` // the primary takes any address; nil: not known yet
	CatchAllAt *time.Time `db:"catch_all_at" json:"catch_all_at"`
	Offered    int        `db:"offered" json:"offered"`
	Refused    int        `db:"refused" json:"refused"` // marked ones
}

// RecipientDomain returns what is known of a domain.
func (s *Store) RecipientDomain(ctx context.Context, domain string) (*RecipientDomain, error) {
	rows, err := s.Pool.Query(ctx, `SELECT coalesce(r.learn, 'offer') AS learn, r.catch_all, r.catch_all_at,
		(SELECT count(*) FROM recipient_offer o WHERE o.domain_id = d.id AND o.state = 'offered' AND `+notRegistered+`) AS offered,
		(SELECT count(*) FROM recipient_check c WHERE c.domain_id = d.id AND c.marked) AS refused
		FROM domain d LEFT JOIN recipient_domain r ON r.domain_id = d.id WHERE d.name = $1`, domain)
	if err != nil {
		return nil, wrap("recipients of "+domain, err)
	}
	out, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[RecipientDomain])
	return out, wrap("recipients of "+domain, err)
}

// notRegistered is true for offers o whose address is still free.
const notRegistered = `NOT EXISTS (SELECT FROM mailbox m WHERE m.address = o.address)
	AND NOT EXISTS (SELECT FROM alias a WHERE a.address = o.address)`

// SetLearn changes what becomes of found addresses.
func (s *Store) SetLearn(ctx context.Context, domain string, l Learn) error {
	if !slices.Contains([]Learn{LearnOff, LearnOffer, LearnAdd}, l) {
		return invalid("learn %q; it is one of off, offer, add", l)
	}
	tag, err := s.Pool.Exec(ctx, `INSERT INTO recipient_domain (domain_id, learn) SELECT id, $2 FROM domain WHERE name = $1
		ON CONFLICT (domain_id) DO UPDATE SET learn = $2, next_at = now()`, domain, l)
	return one("set learning of "+domain, tag.RowsAffected(), err)
}

// Offer is an address that the primary has and nobody registered.
type Offer struct {
	Address   string    `db:"address" json:"address"`
	FirstSeen time.Time `db:"first_seen" json:"first_seen"`
	LastSeen  time.Time `db:"last_seen" json:"last_seen"` // of its mail
}

// Offers lists a domain's offers by address, those after one.
func (s *Store) Offers(ctx context.Context, domain, after string, limit int) ([]Offer, error) {
	rows, err := s.Pool.Query(ctx, `SELECT o.address, o.first_seen, o.last_seen FROM recipient_offer o JOIN domain d ON d.id = o.domain_id
		WHERE d.name = $1 AND o.state = 'offered' AND o.address > $2 AND `+notRegistered+` ORDER BY o.address LIMIT $3`, domain, after, limit)
	if err != nil {
		return nil, wrap("list offers of "+domain, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Offer])
	return out, wrap("list offers of "+domain, err)
}

// Refusal is a registered address that the primary does not have.
type Refusal struct {
	Address string    `db:"address" json:"address"` // a mailbox or an alias
	Since   time.Time `db:"refused_since" json:"since"`
	Asked   time.Time `db:"asked_at" json:"asked_at"`
	Reply   string    `db:"reply" json:"reply"`
}

// Refusals lists the addresses of a domain that its primary has refused for
// so long that people are told.
func (s *Store) Refusals(ctx context.Context, domain string) ([]Refusal, error) {
	rows, err := s.Pool.Query(ctx, `SELECT c.address, c.refused_since, c.asked_at, c.reply FROM recipient_check c
		JOIN domain d ON d.id = c.domain_id WHERE d.name = $1 AND c.marked AND (EXISTS (SELECT FROM mailbox m WHERE m.address = c.address)
		OR EXISTS (SELECT FROM alias a WHERE a.address = c.address)) ORDER BY c.address LIMIT 1000`, domain)
	if err != nil {
		return nil, wrap("list refused addresses of "+domain, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Refusal])
	return out, wrap("list refused addresses of "+domain, err)
}

// AcceptOffers registers offered addresses of a domain, all of them if none
// is named, as mailboxes without a password. An address that is not offered
// is ErrNotFound, and then nothing is done. It returns what was registered.
func (s *Store) AcceptOffers(ctx context.Context, domain string, addresses ...string) ([]string, error) {
	var done []string
	err := s.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM recipient_offer o USING domain d WHERE d.id = o.domain_id AND d.name = $1
			AND o.state = 'offered' AND (cardinality($2::text[]) = 0 OR o.address = ANY ($2)) AND `+notRegistered+` RETURNING o.address`,
			domain, append([]string{}, addresses...))
		if err == nil {
			done, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if !slices.Contains(done, a) {
				return fmt.Errorf("%w: %s is not offered", ErrNotFound, a)
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO mailbox (domain_id, address) SELECT d.id, x FROM domain d, unnest($2::text[]) AS x WHERE d.name = $1`, domain, done)
		return err
	})
	slices.Sort(done)
	return done, wrap("register offered addresses of "+domain, err)
}

// IgnoreOffer makes an address never be offered again.
func (s *Store) IgnoreOffer(ctx context.Context, domain, address string) error {
	tag, err := s.Pool.Exec(ctx, `UPDATE recipient_offer o SET state = 'ignored' FROM domain d
		WHERE d.id = o.domain_id AND d.name = $1 AND o.address = $2`, domain, address)
	return one("ignore "+address, tag.RowsAffected(), err)
}
