package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the worker does about recipients, see docs/recipients.md.

// maxOffers bounds what is remembered of a domain's unregistered addresses.
const maxOffers = 1000

// SeenRecipient is an envelope recipient of an inbound message, as it was
// sent.
type SeenRecipient struct {
	Address  string    `db:"address"`
	Received time.Time `db:"received"`
}

// ScannedDay is how far a day of the index was read.
type ScannedDay struct {
	Day  time.Time `db:"day"`
	From int32     `db:"ord"`  // the first message to read, in the order in which they came into the index
	To   int32     `db:"next"` // and the first that is not to be read yet
}

// ScanRecipients reads the envelope recipients of inbound messages that were
// not read before, of about so many messages, the newest days first. read is
// for ScannedTo, when all is noted.
func (s *Store) ScanRecipients(ctx context.Context, messages int32) (out []SeenRecipient, read []ScannedDay, err error) {
	rows, err := s.Pool.Query(ctx, `SELECT d.day, coalesce(r.ord, 0) AS ord, d.next FROM index_day d LEFT JOIN recipient_scan_day r ON r.day = d.day
		WHERE d.next > coalesce(r.ord, 0) ORDER BY d.day DESC`)
	if err != nil {
		return nil, nil, wrap("read recipients", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByName[ScannedDay])
	if err != nil {
		return nil, nil, wrap("read recipients", err)
	}
	for _, d := range days {
		if messages <= 0 {
			break
		}
		d.To = min(d.To, d.From+messages)
		messages -= d.To - d.From
		rows, err := s.Pool.Query(ctx, `SELECT unnest(recipients) AS address, received FROM message
			WHERE received >= $1 AND received < $2 AND ord >= $3 AND ord < $4 AND direction = 'inbound'`,
			pgx.QueryExecModeDescribeExec, d.Day, d.Day.AddDate(0, 0, 1), d.From, d.To)
		if err != nil {
			return nil, nil, wrap("read recipients", err)
		}
		seen, err := pgx.CollectRows(rows, pgx.RowToStructByName[SeenRecipient])
		if err != nil {
			return nil, nil, wrap("read recipients", err)
		}
		out, read = append(out, seen...), append(read, d)
	}
	return out, read, nil
}

// ScannedTo notes how far ScanRecipients has come.
func (s *Store) ScannedTo(ctx context.Context, read []ScannedDay) error {
	days, to := make([]time.Time, len(read)), make([]int32, len(read))
	for i, d := range read {
		days[i], to[i] = d.Day, d.To
	}
	_, err := s.Pool.Exec(ctx, `INSERT INTO recipient_scan_day (day, ord) SELECT x.day, x.ord FROM unnest($1::date[], $2::integer[]) AS x (day, ord)
		JOIN index_day d ON d.day = x.day ON CONFLICT (day) DO UPDATE SET ord = EXCLUDED.ord`, days, to)
	return wrap("note recipients read", err)
}

// NoteSeen remembers unregistered canonical addresses of our domains, and has
// their primaries asked soon. Domains that do not learn, and those whose
// primary takes any address, remember nothing.
func (s *Store) NoteSeen(ctx context.Context, seen []SeenRecipient) error {
	addresses, at := make([]string, len(seen)), make([]time.Time, len(seen))
	for i, x := range seen {
		addresses[i], at[i] = x.Address, x.Received
	}
	_, err := s.Pool.Exec(ctx, `WITH x AS (SELECT address, max(at) AS at, regexp_replace(address, '^.*@', '') AS domain
			FROM unnest($1::text[], $2::timestamptz[]) AS u (address, at) GROUP BY address),
		noted AS (INSERT INTO recipient_offer (address, domain_id, first_seen, last_seen)
			SELECT o.address, d.id, o.at, o.at FROM x o JOIN domain d ON d.name = o.domain LEFT JOIN recipient_domain r ON r.domain_id = d.id
			WHERE coalesce(r.learn, 'offer') <> 'off' AND r.catch_all IS NOT TRUE AND `+notRegistered+`
				AND (SELECT count(*) FROM recipient_offer y WHERE y.domain_id = d.id) < $3
			ON CONFLICT (address) DO UPDATE SET last_seen = greatest(recipient_offer.last_seen, EXCLUDED.last_seen)
			RETURNING domain_id, asked_at)
		INSERT INTO recipient_domain (domain_id) SELECT DISTINCT domain_id FROM noted WHERE asked_at IS NULL
			ON CONFLICT (domain_id) DO UPDATE SET next_at = least(recipient_domain.next_at, now())`, addresses, at, maxOffers)
	return wrap("note recipients", err)
}

// DueDomain is a domain whose primary is to be asked.
type DueDomain struct {
	ID         int64      `db:"id"`
	Name       string     `db:"name"`
	CatchAll   *bool      `db:"catch_all"`
	CatchAllAt *time.Time `db:"catch_all_at"` // when that was last asked
	Learn      Learn      `db:"learn"`
}

// DueRecipientDomains returns domains whose time has come, the longest waiting
// first.
func (s *Store) DueRecipientDomains(ctx context.Context, limit int) ([]DueDomain, error) {
	_, err := s.Pool.Exec(ctx, `INSERT INTO recipient_domain (domain_id) SELECT d.id FROM domain d
		WHERE NOT EXISTS (SELECT FROM recipient_domain r WHERE r.domain_id = d.id) ON CONFLICT DO NOTHING`)
	if err != nil {
		return nil, wrap("look for domains to ask", err)
	}
	rows, err := s.Pool.Query(ctx, `SELECT d.id, d.name, r.catch_all, r.catch_all_at, r.learn FROM recipient_domain r
		JOIN domain d ON d.id = r.domain_id WHERE r.next_at <= now() ORDER BY r.next_at LIMIT $1`, limit)
	if err != nil {
		return nil, wrap("look for domains to ask", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[DueDomain])
	return out, wrap("look for domains to ask", err)
}

// DueAddresses returns addresses of a domain that were not asked for since
// then: first new ones, then registered ones.
func (s *Store) DueAddresses(ctx context.Context, domainID int64, since time.Time, limit int) ([]string, error) {
	_, err := s.Pool.Exec(ctx, `WITH gone AS (DELETE FROM recipient_offer o WHERE o.domain_id = $1 AND NOT (`+notRegistered+`))
		DELETE FROM recipient_check o WHERE o.domain_id = $1 AND `+notRegistered, domainID)
	if err != nil {
		return nil, wrap("look for addresses to ask", err)
	}
	rows, err := s.Pool.Query(ctx, `SELECT x.address FROM (
			SELECT address, asked_at, 0 AS turn FROM recipient_offer WHERE domain_id = $1 AND state <> 'ignored'
			UNION ALL SELECT r.address, c.asked_at, 1 FROM (SELECT address FROM mailbox WHERE domain_id = $1
				UNION ALL SELECT address FROM alias WHERE domain_id = $1) r LEFT JOIN recipient_check c ON c.address = r.address) x
		WHERE x.asked_at IS NULL OR x.asked_at < $2 ORDER BY x.turn, x.asked_at NULLS FIRST, x.address LIMIT $3`, domainID, since, limit)
	if err != nil {
		return nil, wrap("look for addresses to ask", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, wrap("look for addresses to ask", err)
}

// RecipientAnswer is what a primary said of an address. Neither means that it
// gave no verdict.
type RecipientAnswer struct {
	Address         string
	Exists, Unknown bool
	Reply           string
}

// NoteAnswer keeps an answer: an unregistered address is offered when it
// exists and forgotten when not; a registered one is marked when it was
// refused since before markBefore.
func (s *Store) NoteAnswer(ctx context.Context, domainID int64, a RecipientAnswer, now, markBefore time.Time) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM recipient_offer WHERE address = $1 AND state <> 'ignored' AND $2`, a.Address, a.Unknown); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE recipient_offer SET asked_at = $2, state = CASE WHEN $3 AND state = 'seen' THEN 'offered' ELSE state END
			WHERE address = $1`, a.Address, now, a.Exists)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO recipient_check AS c (address, domain_id, asked_at, refused_since, reply)
			SELECT $1, $2, $3, CASE WHEN $5 THEN $3::timestamptz END, $6 WHERE EXISTS (SELECT FROM mailbox WHERE address = $1)
				OR EXISTS (SELECT FROM alias WHERE address = $1)
			ON CONFLICT (address) DO UPDATE SET asked_at = $3, reply = $6, domain_id = $2,
				refused_since = CASE WHEN $4 THEN NULL WHEN $5 THEN coalesce(c.refused_since, $3) ELSE c.refused_since END,
				marked = CASE WHEN $4 THEN false WHEN $5 THEN coalesce(c.refused_since <= $7, false) ELSE c.marked END`,
			a.Address, domainID, now, a.Exists, a.Unknown, clean(a.Reply), markBefore)
		return err
	})
	return wrap("note answer about "+a.Address, err)
}

// SetCatchAll notes whether a primary takes any address. Of one that does,
// no answer means anything: what was seen is forgotten, and marks with it.
func (s *Store) SetCatchAll(ctx context.Context, domainID int64, catchAll bool, now time.Time) error {
	_, err := s.Pool.Exec(ctx, `WITH known AS (UPDATE recipient_domain SET catch_all = $2, catch_all_at = $3 WHERE domain_id = $1),
		unmarked AS (UPDATE recipient_check SET refused_since = NULL, marked = false WHERE domain_id = $1 AND $2)
		DELETE FROM recipient_offer WHERE domain_id = $1 AND $2 AND state <> 'ignored'`, domainID, catchAll, now)
	return wrap("note catch-all", err)
}

// AskNext sets when a domain's primary is asked again.
func (s *Store) AskNext(ctx context.Context, domainID int64, at time.Time) error {
	_, err := s.Pool.Exec(ctx, `UPDATE recipient_domain SET next_at = $2 WHERE domain_id = $1`, domainID, at)
	return wrap("note when to ask next", err)
}
