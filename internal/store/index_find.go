package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A search has two steps. The finder collects the keys of messages that match,
// newest first, some days at a time, each time more, so that its work is bound
// to what a page needs; visibleRows reads those rows that may be seen. The
// words of a message say who may see it too, so nearly all that is found is
// visible; but the tables decide.

// key is a message's primary key.
type key struct {
	Received time.Time
	ID       uuid.UUID
}

const (
	minKeys    = 50 // at once: some may turn out not to be visible
	firstDays  = 1  // of the first look
	daysGrowth = 4  // at most, from look to look
)

// finder walks the day partitions backwards.
type finder struct {
	tx    pgx.Tx
	cond  *conditions
	days  []time.Time // those still to be searched, newest first
	span  int         // days of the next look
	after key         // the next key is before this one; zero: any
	done  bool
}

// newFinder prepares a search: it reads which days there are, and how far
// back anything may be visible.
func newFinder(ctx context.Context, tx pgx.Tx, f *MessageFilter, now time.Time) (*finder, error) {
	c := &conditions{access: f.Access, now: now}
	c.add(f.root())
	x := &finder{tx: tx, cond: c, span: firstDays, after: key(f.Cursor)}
	if f.After.After(c.after) {
		c.after = f.After
	}
	if !f.Before.IsZero() && (c.before.IsZero() || f.Before.Before(c.before)) {
		c.before = f.Before
	}
	var since *time.Time
	domains := f.Access.Domains
	if len(domains) == 0 {
		domains = []string{domainOf(f.Access.Mailbox)}
	}
	err := tx.QueryRow(ctx, `SELECT
		CASE WHEN NOT $1 AND NOT EXISTS (SELECT FROM legal_hold WHERE ended_at IS NULL AND domain = ANY($2)) THEN
			$3::timestamptz - make_interval(hours => 24 * (SELECT max(coalesce(r.days, 3650)) FROM unnest($2::text[]) d LEFT JOIN retention r ON r.domain = d)) END,
		ARRAY(SELECT to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'message'::regclass ORDER BY 1 DESC)`, f.Access.All, domains, now).Scan(&since, &x.days)
	if err != nil {
		return nil, err
	}
	if since != nil && since.After(c.after) {
		c.after = *since
	}
	x.trim()
	return x, nil
}

// trim leaves out the days that cannot have anything.
func (x *finder) trim() {
	newest := x.cond.before
	if !x.after.Received.IsZero() && (newest.IsZero() || x.after.Received.Before(newest)) {
		newest = x.after.Received.Add(time.Microsecond)
	}
	var days []time.Time
	for _, d := range x.days {
		if (newest.IsZero() || d.Before(newest)) && d.AddDate(0, 0, 1).After(x.cond.after) {
			days = append(days, d)
		}
	}
	x.days, x.done = days, len(days) == 0
}

// next returns some keys, at least want of them if there are as many; done
// says that there are no more.
func (x *finder) next(ctx context.Context, want int) (out []key, err error) {
	want = max(want, minKeys)
	for len(out) < want && len(x.days) > 0 {
		look := x.days[:min(x.span, len(x.days))]
		limit := want - len(out)
		keys, err := x.look(ctx, look, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
		if len(keys) > 0 {
			x.after = keys[len(keys)-1]
		}
		if len(keys) == limit { // there may be more in these days
			break
		}
		x.days = x.days[len(look):]
		x.span *= daysGrowth
	}
	x.done = len(x.days) == 0
	return out, nil
}

// look finds keys within some days that follow each other in x.days.
func (x *finder) look(ctx context.Context, days []time.Time, limit int) ([]key, error) {
	c := *x.cond
	c.args = append([]any(nil), c.args...)
	c.where = append([]string(nil), c.where...)
	var sql string
	if c.tsquery != "" && !(c.plain && len(c.access.Domains) < 2) {
		sql = x.byWords(&c, days, limit)
		if err := planner(ctx, x.tx, "off", "force_generic_plan"); err != nil {
			return nil, err
		}
	} else {
		sql = x.byTime(&c, days, limit)
		if err := planner(ctx, x.tx, "on", "force_custom_plan"); err != nil { // for some partitions only
			return nil, err
		}
	}
	rows, err := x.tx.Query(ctx, sql, c.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[key])
}

// planner sets, for the rest of the transaction, whether plain index scans are
// allowed, and whether plans are made anew for each value. To plan for many
// partitions takes longer than to read them.
func planner(ctx context.Context, tx pgx.Tx, indexScan, plans string) error {
	_, err := tx.Exec(ctx, `SELECT set_config('enable_indexscan', $1, true), set_config('plan_cache_mode', $2, true), set_config('enable_seqscan', 'off', true)`,
		indexScan, plans)
	return err
}

// byWords scans the GIN index of each day. The planner thinks that matching
// words costs nothing, and would rather read all rows of a day in order: it is
// left no choice, by settings and by bounds that no index knows.
func (x *finder) byWords(c *conditions, days []time.Time, limit int) string {
	c.where = append(c.where, "m.tsv @@ "+c.arg(c.tsquery)+"::tsquery")
	x.bounds(c, "m.received + interval '0'")
	where := strings.Join(c.where, " AND ")
	parts := make([]string, len(days))
	for i, d := range days {
		parts[i] = "SELECT m.received, m.id FROM message_" + d.Format("20060102") + " m WHERE " + where
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY received DESC, id DESC LIMIT " + c.arg(limit)
}

// byTime reads an index in the order of time.
func (x *finder) byTime(c *conditions, days []time.Time, limit int) string {
	table, selects := "message", "SELECT"
	switch a := c.access; {
	case len(a.Domains) > 0:
		table, selects = "message_mailbox", "SELECT DISTINCT"
		c.where = append(c.where, "m.domain = "+c.arg(a.Domains[0]))
	case !a.All:
		table = "message_mailbox"
		c.where = append(c.where, "m.mailbox = "+c.arg(a.Mailbox))
	}
	x.bounds(c, "m.received")
	c.where = append(c.where, "m.received >= "+c.arg(days[len(days)-1]), "m.received < "+c.arg(days[0].AddDate(0, 0, 1)))
	return selects + " m.received, m.id FROM " + table + " m WHERE " + strings.Join(c.where, " AND ") +
		" ORDER BY m.received DESC, m.id DESC LIMIT " + c.arg(limit)
}

// bounds adds the bounds of time.
func (x *finder) bounds(c *conditions, received string) {
	if !c.after.IsZero() {
		c.where = append(c.where, received+" >= "+c.arg(c.after))
	}
	if !c.before.IsZero() {
		c.where = append(c.where, received+" < "+c.arg(c.before))
	}
	if !x.after.Received.IsZero() {
		c.where = append(c.where, fmt.Sprintf("(%s, m.id) < (%s, %s)", received, c.arg(x.after.Received), c.arg(x.after.ID)))
	}
}
