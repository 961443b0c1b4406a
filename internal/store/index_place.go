package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// place is where a message is in the index.
type place struct {
	received time.Time
	ord      int32
}

// day is that of the tables.
func (p place) day() time.Time { return p.received.Truncate(24 * time.Hour) }

// places says where messages are in the index. An id of version 7 tells when
// it was made, which is when the message was received, so its day is asked
// first. The others, those of imported mail, are looked for on all days, some
// at a time, each time in a transaction of its own: a statement on the parent
// table would lock the tables and indexes of all days at once, which are more
// than PostgreSQL has room for when there are thousands.
func (s *Store) places(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]place, error) {
	out := map[uuid.UUID]place{}
	if len(ids) == 0 {
		return out, nil
	}
	days, err := s.indexDays(ctx)
	if err != nil {
		return nil, err
	}
	var likely []time.Time
	for _, id := range ids {
		if id.Version() == 7 {
			day := time.Unix(id.Time().UnixTime()).UTC().Truncate(24 * time.Hour)
			if slices.Contains(days, day) && !slices.Contains(likely, day) {
				likely = append(likely, day)
			}
		}
	}
	for _, list := range [][]time.Time{likely, days} {
		for look := range slices.Chunk(list, maxDays) {
			if len(out) == len(ids) {
				return out, nil
			}
			if err := s.placesOf(ctx, ids, look, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// indexDays are the days that have messages, newest first.
func (s *Store) indexDays(ctx context.Context) ([]time.Time, error) {
	rows, err := s.Pool.Query(ctx, `SELECT day FROM index_day WHERE next > 0 ORDER BY day DESC`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[time.Time])
}

// placesOf adds those that are of some days.
func (s *Store) placesOf(ctx context.Context, ids []uuid.UUID, days []time.Time, out map[uuid.UUID]place) error {
	var parts []string
	for _, d := range days {
		parts = append(parts, "SELECT id, received, ord FROM message"+d.Format("_20060102")+" WHERE id = ANY($1)")
	}
	// Not prepared: there are too many of these statements to keep them.
	rows, err := s.Pool.Query(ctx, strings.Join(parts, " UNION ALL "), pgx.QueryExecModeDescribeExec, ids)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var p place
	_, err = pgx.ForEachRow(rows, []any{&id, &p.received, &p.ord}, func() error {
		p.received = p.received.UTC()
		out[id] = p
		return nil
	})
	return err
}
