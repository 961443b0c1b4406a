package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Vantage is the worker's word on its own network.
type Vantage struct {
	View      string    `db:"view" json:"view"`     // see worker/detect: clear, second-look, confirmed, own-network
	Detail    string    `db:"detail" json:"detail"` // in words
	Since     time.Time `db:"since" json:"since"`
	CheckedAt time.Time `db:"checked_at" json:"checked_at"`
}

// Unusual reports that people should know: most primaries fail at once.
func (v *Vantage) Unusual() bool { return v != nil && v.View != "clear" }

// SaveVantage replaces the worker's word, and keeps the episode that it is of.
func (s *Store) SaveVantage(ctx context.Context, v Vantage) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO vantage (view, detail, since, checked_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (one) DO UPDATE SET view = EXCLUDED.view, detail = EXCLUDED.detail, since = EXCLUDED.since, checked_at = EXCLUDED.checked_at`,
			v.View, v.Detail, v.Since, v.CheckedAt)
		if err != nil {
			return err
		}
		return keepEpisode(ctx, tx, &v)
	})
	return wrap("save view of the own network", err)
}

// Vantage returns the worker's word, nil when there was none yet.
func (s *Store) Vantage(ctx context.Context) (*Vantage, error) {
	rows, err := s.Pool.Query(ctx, `SELECT view, detail, since, checked_at FROM vantage`)
	if err != nil {
		return nil, wrap("read view of the own network", err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Vantage])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return v, wrap("read view of the own network", err)
}
