package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// seen reads rows as who asks may see them.
type seen struct {
	access Access
	now    time.Time
	after  time.Time // bounds of a search; zero: none
	before time.Time
	cursor Cursor

	oldest time.Time // nothing from before is visible, unless it is zero
	sure   time.Time // nothing from after has expired
}

// newest is a time, exclusive, from which on nothing is wanted, or zero.
func (v *seen) newest() time.Time {
	if c := v.cursor.Received.Add(time.Microsecond); !v.cursor.Received.IsZero() && (v.before.IsZero() || c.Before(v.before)) {
		return c
	}
	return v.before
}

// planAsMade has the statements of a transaction planned once for all values,
// and by the indexes that they are made for, whatever statistics say of a new
// table.
const planAsMade = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)`

// prepare reads what bounds of time the retention sets, and says planAsMade.
func (v *seen) prepare(ctx context.Context, tx pgx.Tx) error {
	domains := v.access.Domains
	if len(domains) == 0 {
		domains = []string{domainOf(v.access.Mailbox)}
	}
	var oldest *time.Time
	batch := &pgx.Batch{}
	batch.Queue(planAsMade)
	batch.Queue(`SELECT CASE WHEN NOT $1 AND NOT EXISTS (SELECT FROM legal_hold WHERE ended_at IS NULL AND domain = ANY($2)) THEN
			$3::timestamptz - make_interval(hours => 24 * (SELECT max(coalesce(r.days, 3650)) FROM unnest($2::text[]) d LEFT JOIN retention r ON r.domain = d)) END,
		$3::timestamptz - make_interval(hours => 24 * least(3650, (SELECT min(r.days) FROM retention r WHERE $1 OR r.domain = ANY($2))))`,
		v.access.All, domains, v.now).QueryRow(func(row pgx.Row) error { return row.Scan(&oldest, &v.sure) })
	err := tx.SendBatch(ctx, batch).Close()
	if oldest != nil {
		v.oldest = *oldest
	}
	return err
}

// rows reads the newest of what matches on some days that follow each other,
// newest first, until there are want rows; all says that there are no more. It
// removes what it reads from the sets.
func (v *seen) rows(ctx context.Context, tx pgx.Tx, found []matches, want int) (out []MessageRow, all bool, err error) {
	type part struct {
		ords []int32
		rows []MessageRow
	}
	for len(found) > 0 {
		if len(out) >= want {
			return out, false, nil
		}
		missing := want - len(out)
		batch := &pgx.Batch{}
		var parts []*part
		for _, m := range found {
			p := &part{ords: m.set.top(missing + 8)} // some stand beside their time, or are not visible
			parts = append(parts, p)
			if len(p.ords) > 0 {
				v.queue(batch, m.info, p.ords, func(rows []MessageRow) { p.rows = rows })
			}
			if missing -= len(p.ords); missing <= 0 {
				break
			}
		}
		if batch.Len() > 0 {
			if err := tx.SendBatch(ctx, batch).Close(); err != nil {
				return nil, false, err
			}
		}
		for _, p := range parts {
			rows, whole, err := v.rest(ctx, tx, found[0], p.ords, p.rows, want-len(out))
			if err != nil {
				return nil, false, err
			}
			out = append(out, rows...)
			if !whole {
				return out, false, nil
			}
			found = found[1:]
		}
	}
	return out, true, nil
}

// rest completes the rows of a day, of which some have been read. A message
// that has not been read may be newer than one that has, but by no more than
// the day's slack.
func (v *seen) rest(ctx context.Context, tx pgx.Tx, m matches, ords []int32, rows []MessageRow, want int) (out []MessageRow, whole bool, err error) {
	for more := len(ords); ; more *= 2 {
		if m.set.empty() {
			return rows, true, nil
		}
		if n := len(rows); n > 0 {
			bound := rows[n-1].Received.Add(m.info.slack())
			certain := 0
			for certain < n && rows[certain].Received.After(bound) {
				certain++
			}
			if certain >= want {
				return rows[:certain], false, nil
			}
		}
		batch := &pgx.Batch{}
		v.queue(batch, m.info, m.set.top(max(more, 16)), func(r []MessageRow) { rows = mergeRows(rows, r) })
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return nil, false, err
		}
	}
}

// mergeRows merges two lists that are newest first.
func mergeRows(a, b []MessageRow) []MessageRow {
	out := make([]MessageRow, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if c := a[0].Received.Compare(b[0].Received); c > 0 || c == 0 && string(a[0].ID[:]) > string(b[0].ID[:]) {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// queue asks for those of some messages of a day that may be seen, newest
// first.
func (v *seen) queue(batch *pgx.Batch, d *dayInfo, ords []int32, take func([]MessageRow)) {
	a := &arguments{}
	columns, where := v.visible(a, d.suffix())
	where = "m.ord = ANY(" + a.add(ords) + ") AND " + where
	if !v.after.IsZero() {
		where += " AND m.received >= " + a.add(v.after)
	}
	if !v.before.IsZero() {
		where += " AND m.received < " + a.add(v.before)
	}
	if !v.cursor.Received.IsZero() {
		where += fmt.Sprintf(" AND (m.received, m.id) < (%s, %s)", a.add(v.cursor.Received), a.add(v.cursor.ID))
	}
	batch.Queue("SELECT "+columns+" FROM message"+d.suffix()+" m WHERE "+where+" ORDER BY m.received DESC, m.id DESC", a.list...).Query(func(r pgx.Rows) error {
		rows, err := pgx.CollectRows(r, pgx.RowToStructByName[MessageRow])
		take(rows)
		return err
	})
}

// arguments of a statement are bound, never part of its text.
type arguments struct{ list []any }

// add adds an argument and returns its placeholder.
func (a *arguments) add(v any) string {
	a.list = append(a.list, v)
	return fmt.Sprintf("$%d", len(a.list))
}

// visible gives the columns of message m as who asks may see them, and the
// condition under which the row may be seen at all: a mailbox that the asker
// stands for has it, and it has not expired for that mailbox. suffix is that
// of the day's tables.
func (v *seen) visible(c *arguments, suffix string) (columns, where string) {
	recipients, client, user, direction, route := "m.recipients", "m.client", "m.sasl_user", "m.direction", "m.route"
	box := "EXISTS (SELECT FROM message_mailbox" + suffix + " x WHERE x.received = m.received AND x.id = m.id"
	a := v.access
	now, sure := c.add(v.now), c.add(v.sure)
	needed := " AND (x.received > " + sure + " OR archive_needed(x.mailbox, x.domain, x.received, " + now + ")) OFFSET 0)"
	switch {
	case a.All:
		where = "(m.received > " + sure + " OR " + box + needed + " OR NOT " + box + ") AND archive_needed('', '', m.received, " + now + "))"
	case len(a.Domains) > 0:
		d := c.add(a.Domains)
		where = box + " AND x.domain = ANY(" + d + ")" + needed
		// A sender's domain knows its recipients; others know their own.
		recipients = `ARRAY(SELECT r FROM unnest(m.recipients) r
			WHERE lower(split_part(m.sender, '@', -1)) = ANY(` + d + `) OR lower(split_part(r, '@', -1)) = ANY(` + d + `))`
	default: // of the mailbox "" there is nothing
		mailbox := c.add(a.Mailbox)
		where = box + " AND x.mailbox = " + mailbox + needed
		recipients, client, user = "'{}'::text[]", "''", "''"
		direction = "CASE WHEN m.direction = 'outbound' AND mailbox_of(m.sender) <> " + mailbox + " THEN 'internal' ELSE m.direction END" // see index_owner.go
		route = "CASE WHEN mailbox_of(m.sender) = " + mailbox + " THEN m.route WHEN m.route @> '{primary,portal}' THEN '{}' ELSE array_remove(m.route, 'internet') END"
	}
	return strings.Join([]string{"m.id, m.received, " + direction + " AS direction, m.sender", recipients + " AS recipients", "m.subject, m.from_header, m.to_header, m.cc_header, m.message_id",
		"m.size, m.attachments, " + route + " AS route", client + " AS client", user + " AS sasl_user", "m.queue_id, m.segment, m.seg_offset, m.seg_length"}, ", "), where
}

// Message returns one message, or ErrNotFound when there is none that the
// asker may see.
func (s *Store) Message(ctx context.Context, access Access, id uuid.UUID) (*MessageRow, error) {
	var out *MessageRow
	err := s.again(func() error {
		places, err := s.places(ctx, []uuid.UUID{id})
		if err != nil || len(places) == 0 {
			return err
		}
		return pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			v := &seen{access: access, now: s.now()}
			if err := v.prepare(ctx, tx); err != nil {
				return err
			}
			batch := &pgx.Batch{}
			v.queue(batch, &dayInfo{Day: places[id].day()}, []int32{places[id].ord}, func(rows []MessageRow) {
				if len(rows) == 1 && rows[0].ID == id { // or the day was made anew meanwhile
					out = &rows[0]
				}
			})
			return tx.SendBatch(ctx, batch).Close()
		})
	})
	if err == nil && out == nil {
		err = ErrNotFound
	}
	return out, wrap("read message "+id.String(), err)
}
