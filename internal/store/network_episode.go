package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// NetworkEpisode is a time in which most primaries failed at once: a row of
// every domain's timeline, since no domain is switched before the worker knows
// what to make of it.
type NetworkEpisode struct {
	ID    int64      `db:"id" json:"id"`
	Began time.Time  `db:"began" json:"began"`
	Ended *time.Time `db:"ended" json:"ended"` // nil: it goes on
	// Outcome is "second-look" when they answered again before there was one,
	// "own-network" when no witness answered either, "confirmed" when they
	// really failed.
	Outcome string `db:"outcome" json:"outcome"`
	Reason  string `db:"reason" json:"reason"` // the evidence, in words
}

// NetworkEpisodes returns the newest episodes that a domain saw, newest first.
func (s *Store) NetworkEpisodes(ctx context.Context, domain string, limit int) ([]NetworkEpisode, error) {
	rows, err := s.Pool.Query(ctx, `SELECT e.* FROM network_episode e JOIN domain d ON d.name = $1
		WHERE e.ended IS NULL OR e.ended >= d.created_at ORDER BY e.began DESC, e.id DESC LIMIT $2`, domain, limit)
	if err != nil {
		return nil, wrap("read episodes of the own network", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[NetworkEpisode])
	return out, wrap("read episodes of the own network", err)
}

// keepEpisode makes one row of what the worker sees in a row. It goes by what
// the table says, so that a worker that takes over goes on with the same row.
// The view "settling" is still of the episode before it.
func keepEpisode(ctx context.Context, tx pgx.Tx, v *Vantage) error {
	var err error
	switch v.View {
	case "clear":
		_, err = tx.Exec(ctx, `UPDATE network_episode SET ended = greatest(began, $1) WHERE ended IS NULL`, v.Since)
	case "second-look":
		_, err = tx.Exec(ctx, `INSERT INTO network_episode (began, outcome, reason)
			SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM network_episode WHERE ended IS NULL)`, v.Since, v.View, v.Detail)
	case "own-network", "confirmed":
		if _, err = tx.Exec(ctx, `UPDATE network_episode SET outcome = $1, reason = $2 WHERE ended IS NULL AND outcome = 'second-look'`, v.View, v.Detail); err != nil {
			return err
		}
		// Another outcome is another episode: our network came back, and the primaries fail really.
		if _, err = tx.Exec(ctx, `UPDATE network_episode SET ended = greatest(began, $1) WHERE ended IS NULL AND outcome <> $2`, v.Since, v.View); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO network_episode (began, outcome, reason)
			SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM network_episode WHERE ended IS NULL)`, v.Since, v.View, v.Detail)
	}
	return err
}
