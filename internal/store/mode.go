package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/directory"
)

// ModeChange is one row of a domain's timeline.
type ModeChange struct {
	ID       int64           `db:"id" json:"id"`
	DomainID int64           `db:"domain_id" json:"-"`
	At       time.Time       `db:"at" json:"at"`
	From     directory.Mode  `db:"from_mode" json:"from"`
	To       directory.Mode  `db:"to_mode" json:"to"`
	Actor    string          `db:"actor" json:"actor"`       // a login, or "detector"
	Manual   bool            `db:"manual" json:"manual"`     // by a person
	Observed bool            `db:"observed" json:"observed"` // only what activation "observe" would have done
	Reason   string          `db:"reason" json:"reason"`
	Evidence json.RawMessage `db:"evidence" json:"evidence"`
	Version  int64           `db:"-" json:"-"` // of the first directory that has it; only SwitchMode fills it in
}

// Switch asks for a change of mode.
type Switch struct {
	Domain   string
	To       directory.Mode
	Actor    string
	Manual   bool // by a person: an emergency then is only ended by a person
	Reason   string
	Evidence any // JSON; nil is {}
}

// SwitchMode changes a domain's mode and adds the row to its timeline, all or
// nothing. Each gateway's worker sees the change in the directory. A person who confirms the
// present mode only takes it over as manual; when nothing changes at all the
// result is nil. The machine never ends a manual emergency, nor switches a
// domain that is not automatic: ErrConflict.
func (s *Store) SwitchMode(ctx context.Context, sw Switch) (*ModeChange, error) {
	evidence, err := evidenceJSON(sw.Evidence)
	if err != nil {
		return nil, err
	}
	var out *ModeChange
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var id int64
		var from directory.Mode
		var manual bool
		var activation directory.Activation
		err := tx.QueryRow(ctx, `SELECT id, mode, mode_manual, activation FROM domain WHERE name = $1 FOR UPDATE`, sw.Domain).
			Scan(&id, &from, &manual, &activation)
		if err != nil {
			return err
		}
		if !sw.Manual && (activation != directory.Automatic || manual && from == directory.Emergency) {
			return fmt.Errorf("%w: the mode of %s is in a person's hands", ErrConflict, sw.Domain)
		}
		keepManual := sw.Manual && sw.To == directory.Emergency
		if from == sw.To {
			if manual == keepManual {
				return nil
			}
			_, err := tx.Exec(ctx, `UPDATE domain SET mode_manual = $2 WHERE id = $1`, id, keepManual)
			return err
		}
		var version int64
		if err := tx.QueryRow(ctx, `UPDATE domain SET mode = $2, mode_since = now(), mode_manual = $3 WHERE id = $1 RETURNING version`,
			id, sw.To, keepManual).Scan(&version); err != nil {
			return err
		}
		out, err = insertModeChange(ctx, tx, ModeChange{DomainID: id, From: from, To: sw.To, Actor: sw.Actor,
			Manual: sw.Manual, Reason: sw.Reason, Evidence: evidence})
		if err != nil {
			return err
		}
		out.Version = version
		return nil
	})
	if err != nil {
		return nil, wrap("switch mode of "+sw.Domain, err)
	}
	return out, nil
}

// ObserveMode records in the timeline what the detector would have done.
func (s *Store) ObserveMode(ctx context.Context, sw Switch, from directory.Mode) error {
	evidence, err := evidenceJSON(sw.Evidence)
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var id int64
		if err := tx.QueryRow(ctx, `SELECT id FROM domain WHERE name = $1`, sw.Domain).Scan(&id); err != nil {
			return err
		}
		_, err := insertModeChange(ctx, tx, ModeChange{DomainID: id, From: from, To: sw.To, Actor: sw.Actor,
			Observed: true, Reason: sw.Reason, Evidence: evidence})
		return err
	})
	return wrap("record observed switch of "+sw.Domain, err)
}

// Timeline returns the newest mode changes of a domain, newest first.
func (s *Store) Timeline(ctx context.Context, domain string, limit int) ([]ModeChange, error) {
	rows, err := s.Pool.Query(ctx, `SELECT c.* FROM mode_change c JOIN domain d ON d.id = c.domain_id
		WHERE d.name = $1 ORDER BY c.at DESC, c.id DESC LIMIT $2`, domain, limit)
	if err != nil {
		return nil, wrap("read timeline of "+domain, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[ModeChange])
	return out, wrap("read timeline of "+domain, err)
}

func insertModeChange(ctx context.Context, tx pgx.Tx, c ModeChange) (*ModeChange, error) {
	rows, err := tx.Query(ctx, `INSERT INTO mode_change (domain_id, from_mode, to_mode, actor, manual, observed, reason, evidence)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *`,
		c.DomainID, c.From, c.To, c.Actor, c.Manual, c.Observed, c.Reason, c.Evidence)
	if err != nil {
		return nil, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[ModeChange])
}

func evidenceJSON(v any) (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("{}"), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return b, nil
}
