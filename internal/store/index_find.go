package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A search looks at some days at a time, the newest first, each time at more,
// so that its work is bound to what a page needs. Of each day it reads the
// postings of what is asked for, which say which messages match, and then the
// rows of the newest of these that may be seen. The statements for a day name
// its tables: PostgreSQL plans for one, once, and keeps that.

const (
	firstDays  = 1  // of the first look
	daysGrowth = 4  // from look to look
	maxDays    = 64 // of one look

	lookBytes  = 32 << 20 // of postings, of one look
	rowBytes   = 128      // what each costs beside its text
	maxLooking = 4        // searches at a time, of the whole program
)

// dayInfo is a day of the index.
type dayInfo struct {
	Day    time.Time
	Next   int32 // ord of the next message
	Slack  int64 // microseconds
	Recent bool  // posting_recent has some of its postings
}

func (d *dayInfo) end() time.Time       { return d.Day.AddDate(0, 0, 1) }
func (d *dayInfo) slack() time.Duration { return time.Duration(d.Slack) * time.Microsecond }
func (d *dayInfo) suffix() string       { return d.Day.Format("_20060102") }

// finder walks the days backwards.
type finder struct {
	tx   pgx.Tx
	plan *plan
	days []dayInfo // those still to be searched, newest first
	room int       // bytes of postings that may be held at a time
	span int       // days of the next look
	read int       // bytes that the last look read, or would have
	seen seen
}

// newFinder prepares a search: it reads which days there are, and how far back
// anything may be visible.
func newFinder(ctx context.Context, tx pgx.Tx, p *plan, cursor Cursor, room int) (*finder, error) {
	x := &finder{tx: tx, plan: p, room: room, span: firstDays, seen: seen{access: p.access, now: p.now, cursor: cursor}}
	if err := x.seen.prepare(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `SELECT day, next, slack, recent > 0 AS recent FROM index_day WHERE next > 0 ORDER BY day DESC`)
	if err == nil {
		x.days, err = pgx.CollectRows(rows, pgx.RowToStructByName[dayInfo])
	}
	if err != nil {
		return nil, err
	}
	x.seen.after, x.seen.before = p.after, p.before
	if x.seen.oldest.After(x.seen.after) {
		x.seen.after = x.seen.oldest
	}
	newest := x.seen.newest()
	x.days = slices.DeleteFunc(x.days, func(d dayInfo) bool {
		return !newest.IsZero() && !d.Day.Before(newest) || !d.end().After(x.seen.after)
	})
	return x, nil
}

// next returns the next messages, newest first: at least want of them if there
// are as many.
func (x *finder) next(ctx context.Context, want int) (out []MessageRow, err error) {
	searched := 0 // days
	for first := true; len(out) < want && len(x.days) > 0; first = false {
		look := x.days[:min(x.span, len(x.days))]
		found, err := x.look(ctx, look, first)
		if err != nil {
			return nil, err
		}
		if x.read > x.room {
			if len(look) == 1 {
				return nil, invalid("this search is too broad: its words are in too many messages of %s. Ask for rarer words, or for more letters before a *", look[0].Day.Format(time.DateOnly))
			}
			x.span = (len(look) + 1) / 2
			continue
		}
		rows, all, err := x.seen.rows(ctx, x.tx, found, want-len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
		if !all { // it was enough
			break
		}
		x.days = x.days[len(look):]
		searched += len(look)
		x.span = min(x.span*daysGrowth, maxDays, 1+len(look)*x.room/(x.read+1)/2)
		if n := len(out); n > 0 { // no more than are likely to be needed
			x.span = min(x.span, 1+(want-n)*searched*3/(n*2))
		}
	}
	return out, nil
}

// matches is what of a day may be shown.
type matches struct {
	info *dayInfo
	set  set
}

// look evaluates the query on some days, unless their postings are too many:
// x.read says so. Each look is a transaction, so that what one search locks is
// bound too.
func (x *finder) look(ctx context.Context, days []dayInfo, first bool) ([]matches, error) {
	x.read = 0
	index := make([]*dayIndex, len(days))
	batch := &pgx.Batch{}
	if !first {
		batch.Queue(`COMMIT AND CHAIN`)
		batch.Queue(planAsMade)
	}
	out := make([]matches, len(days))
	for i := range days {
		d := &dayIndex{plan: x.plan, info: &days[i], rows: map[string][]posting{}}
		index[i] = d
		x.queuePostings(batch, d)
		x.queueTimes(batch, d)
		out[i] = matches{info: d.info}
	}
	low, high := x.queueBounds(batch, days)
	if batch.Len() > 0 {
		if err := x.tx.SendBatch(ctx, batch).Close(); err != nil {
			return nil, err
		}
	}
	if x.read > x.room {
		return nil, nil
	}
	for i, d := range index {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i].set = d.all()
		out[i].set.keep(low[i], high[i])
		if x.plan.root != nil {
			out[i].set = d.eval(x.plan.root, out[i].set)
		}
	}
	return out, nil
}

// queuePostings asks for the postings that the query needs of a day.
func (x *finder) queuePostings(batch *pgx.Batch, d *dayIndex) {
	if x.plan.sql == "" {
		return
	}
	tables := []string{"posting" + d.info.suffix() + " WHERE true"}
	if d.info.Recent { // first: what moves meanwhile is then read twice, which does no harm, and never not at all
		tables = []string{"posting_recent WHERE day = '" + d.info.Day.Format(time.DateOnly) + "'", tables[0]}
	}
	for _, t := range tables {
		batch.Queue(strings.ReplaceAll(x.plan.sql, "TABLE", t), x.plan.args...).Query(func(rows pgx.Rows) error {
			var p posting
			_, err := pgx.ForEachRow(rows, []any{&p.Word, &p.Field, &p.Docs, &p.Pos}, func() error {
				if x.read += rowBytes + len(p.Word) + len(p.Docs) + len(p.Pos); x.read > x.room {
					clear(d.rows) // the rest is read, and forgotten: the connection stays in order
					return nil
				}
				d.rows[p.Word] = append(d.rows[p.Word], p)
				p.Docs, p.Pos = nil, nil
				return nil
			})
			return err
		})
	}
}

// queueTimes asks which messages of a day are before the times that stand
// within OR or NOT.
func (x *finder) queueTimes(batch *pgx.Batch, d *dayIndex) {
	d.times = make([]set, len(x.plan.times))
	for i, t := range x.plan.times {
		at := t.Moment.On(x.plan.now)
		if early, late := !at.After(d.info.Day), !at.Before(d.info.end()); late && t.Before || early && !t.Before {
			d.times[i] = d.all()
			continue
		} else if early || late {
			d.times[i] = d.none()
			continue
		}
		d.times[i] = d.none()
		sql := "SELECT ord FROM message" + d.info.suffix() + " WHERE received >= $1"
		if t.Before {
			sql = "SELECT ord FROM message" + d.info.suffix() + " WHERE received < $1"
		}
		batch.Queue(sql, at).Query(func(rows pgx.Rows) error {
			var ord int32
			_, err := pgx.ForEachRow(rows, []any{&ord}, func() error { d.times[i].add(uint64(ord)); return nil })
			return err
		})
	}
}

// queueBounds asks which ords of the days can be within the bounds of time,
// which holds of all from low to below high.
func (x *finder) queueBounds(batch *pgx.Batch, days []dayInfo) (low, high []int32) {
	low, high = make([]int32, len(days)), make([]int32, len(days))
	for i := range days {
		d := &days[i]
		high[i] = d.Next
		ask := func(into *int32, more int32, condition, order string, at time.Time) {
			batch.Queue("SELECT ord FROM message"+d.suffix()+" WHERE received "+condition+" $1 ORDER BY received "+order+" LIMIT 1", at).QueryRow(func(row pgx.Row) error {
				var ord int32
				err := row.Scan(&ord)
				if err == nil {
					*into = ord + more
				}
				if errors.Is(err, pgx.ErrNoRows) {
					err = nil
				}
				return err
			})
		}
		if newest := x.seen.newest(); !newest.IsZero() && newest.Before(d.end()) {
			ask(&high[i], 0, ">", "ASC", newest.Add(d.slack()))
		}
		if x.seen.after.After(d.Day) {
			ask(&low[i], 1, "<", "DESC", x.seen.after.Add(-d.slack()))
		}
	}
	return low, high
}
