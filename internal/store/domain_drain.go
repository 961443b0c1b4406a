package store

import "context"

// DrainState is how far a domain's mail is on its way back to the primary,
// from the portals of all gateways.
type DrainState struct {
	Running  bool          `json:"running"` // a drain of some gateway is under way or waits for its turn
	Counts   LedgerCounts  `json:"counts"`
	Messages []LedgerEntry `json:"held_messages"` // the longest held first
}

// DrainState sums up a domain's drain, with up to limit held messages.
func (s *Store) DrainState(ctx context.Context, domain string, limit int) (*DrainState, error) {
	var d DrainState
	err := s.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM river_job WHERE kind = 'drain' AND args->>'domain' = $1
		AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))`, domain).Scan(&d.Running)
	if err != nil {
		return nil, wrap("look for a drain of "+domain, err)
	}
	if d.Counts, err = s.Counts(ctx, domain); err != nil {
		return nil, err
	}
	if d.Messages, err = s.HeldMessages(ctx, domain, limit); err != nil {
		return nil, err
	}
	return &d, nil
}
