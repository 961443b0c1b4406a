package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"understudy/internal/job"
)

// RedeliveryItem is one message for one mailbox.
//
//	waiting ─BeginItem─▶ sending ─ItemSent─▶ sent
//	   ▲                 │  │  ▲
//	   └───ItemRetry─────┘  │  └─ BeginItem again: the outcome of the last attempt is unknown
//	                        └─ItemFailed─▶ failed
type RedeliveryItem struct {
	Redelivery int64     `db:"redelivery" json:"-"`
	Message    uuid.UUID `db:"message" json:"message"`
	Mailbox    string    `db:"mailbox" json:"mailbox"`
	State      string    `db:"state" json:"state"`
	Attempts   int       `db:"attempts" json:"attempts"`
	NextAt     time.Time `db:"next_at" json:"next_at"`
	Reply      string    `db:"reply" json:"reply"` // the server's last one
	UpdatedAt  time.Time `db:"updated_at" json:"updated_at"`
}

// CollectRedelivery enters what the query of a redelivery finds, received
// before it was asked for. Called again after a crash, it adds what is
// missing.
func (s *Store) CollectRedelivery(ctx context.Context, r *Redelivery) error {
	var access struct {
		Access
		Record bool
	}
	if err := json.Unmarshal(r.Access, &access); err != nil {
		return fmt.Errorf("read access of redelivery %d: %w", r.ID, err)
	}
	n := NewRedelivery{Access: access.Access, Query: r.Query, Mailbox: r.Mailbox}
	err := s.find(ctx, n, r.At, func(ids []uuid.UUID) (bool, error) {
		return true, s.tx(ctx, func(tx pgx.Tx) error {
			added, err := addItems(ctx, tx, r.ID, ids, n.Access, n.Mailbox)
			if err != nil || added == 0 || !access.Record {
				return err
			}
			return recordItems(ctx, tx, r.ID, ids)
		})
	})
	if err == nil {
		_, err = s.Pool.Exec(ctx, `UPDATE redelivery SET state = 'sending' WHERE id = $1 AND state = 'collecting'`, r.ID)
	}
	return wrap("collect redelivery", err)
}

// DueItems returns items whose time has come, the longest due first, those
// that a crash left in the middle, and those that wait for this gateway.
func (s *Store) DueItems(ctx context.Context, id int64, gateway string, limit int) ([]RedeliveryItem, error) {
	return s.items(ctx, `redelivery = $1 AND (state IN ('waiting', 'sending') AND next_at <= now() OR state = 'waiting' AND reply = $2)
		ORDER BY next_at, message, mailbox LIMIT $3`, id, elsewhere(gateway), limit)
}

// elsewhere is the reply of an item that waits for a gateway.
func elsewhere(gateway string) string {
	return clean("its segment is on gateway " + gateway + " and not yet shipped")
}

// ItemElsewhere records that only another gateway can deliver an item before
// its segment is shipped, and has that gateway's worker do it. Anybody's may
// try again after the pause.
func (s *Store) ItemElsewhere(ctx context.Context, i RedeliveryItem, gateway string, pause time.Duration) error {
	if err := s.ItemRetry(ctx, i, elsewhere(gateway), time.Now().Add(pause)); err != nil {
		return err
	}
	return s.Enqueue(ctx, job.Redeliver{ID: i.Redelivery, Gateway: gateway}, nil)
}

// SegmentGateway is the gateway that had a segment when it was indexed, ""
// when that is not known.
func (s *Store) SegmentGateway(ctx context.Context, segment string) (string, error) {
	var name string
	err := s.Pool.QueryRow(ctx, `SELECT coalesce((SELECT host FROM segment WHERE name = $1), '')`, segment).Scan(&name)
	return name, wrap("look for the gateway of "+segment, err)
}

// FailedItems returns the first items of a redelivery that failed.
func (s *Store) FailedItems(ctx context.Context, id int64, limit int) ([]RedeliveryItem, error) {
	return s.items(ctx, `redelivery = $1 AND state = 'failed' ORDER BY updated_at, message, mailbox LIMIT $2`, id, limit)
}

// RetriedItems returns items that were tried and wait for another attempt, the
// next first.
func (s *Store) RetriedItems(ctx context.Context, id int64, limit int) ([]RedeliveryItem, error) {
	return s.items(ctx, `redelivery = $1 AND state = 'waiting' AND attempts > 0 ORDER BY next_at, message, mailbox LIMIT $2`, id, limit)
}

func (s *Store) items(ctx context.Context, where string, args ...any) ([]RedeliveryItem, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM redelivery_item WHERE `+where, args...)
	if err != nil {
		return nil, wrap("read redelivery", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[RedeliveryItem])
	return out, wrap("read redelivery", err)
}

// NextItem is when the next waiting item is due; ok is false when none waits.
func (s *Store) NextItem(ctx context.Context, id int64) (at time.Time, ok bool, err error) {
	var next *time.Time
	err = s.Pool.QueryRow(ctx, `SELECT min(next_at) FROM redelivery_item WHERE redelivery = $1 AND state IN ('waiting', 'sending')`, id).Scan(&next)
	if err != nil || next == nil {
		return time.Time{}, false, wrap("read redelivery", err)
	}
	return *next, true, nil
}

// BeginItem records that an item is about to be delivered; false when it must
// not be: it was delivered or has failed.
func (s *Store) BeginItem(ctx context.Context, i RedeliveryItem) (bool, error) {
	tag, err := s.Pool.Exec(ctx, `UPDATE redelivery_item SET state = 'sending', attempts = attempts + 1, updated_at = now()
		WHERE redelivery = $1 AND message = $2 AND mailbox = $3 AND state IN ('waiting', 'sending')`, i.Redelivery, i.Message, i.Mailbox)
	return tag.RowsAffected() == 1, wrap("begin redelivery of "+i.Message.String(), err)
}

// ItemSent records that the server took the message.
func (s *Store) ItemSent(ctx context.Context, i RedeliveryItem, reply string) error {
	return s.settleItem(ctx, i, "sent", reply)
}

// ItemFailed records that the message will not be delivered.
func (s *Store) ItemFailed(ctx context.Context, i RedeliveryItem, reply string) error {
	return s.settleItem(ctx, i, "failed", reply)
}

func (s *Store) settleItem(ctx context.Context, i RedeliveryItem, state, reply string) error {
	_, err := s.Pool.Exec(ctx, `WITH settled AS (
			UPDATE redelivery_item SET state = $4, reply = $5, updated_at = now()
			WHERE redelivery = $1 AND message = $2 AND mailbox = $3 AND state = 'sending' RETURNING state)
		UPDATE redelivery SET done = done + (SELECT count(*) FROM settled WHERE state = 'sent'),
			failed = failed + (SELECT count(*) FROM settled WHERE state = 'failed') WHERE id = $1`,
		i.Redelivery, i.Message, i.Mailbox, state, clean(reply))
	return wrap("record redelivery of "+i.Message.String(), err)
}

// ItemRetry records that the message was not taken this time.
func (s *Store) ItemRetry(ctx context.Context, i RedeliveryItem, reply string, next time.Time) error {
	_, err := s.Pool.Exec(ctx, `UPDATE redelivery_item SET state = 'waiting', reply = $4, next_at = $5, updated_at = now()
		WHERE redelivery = $1 AND message = $2 AND mailbox = $3 AND state = 'sending'`, i.Redelivery, i.Message, i.Mailbox, clean(reply), next)
	return wrap("record redelivery of "+i.Message.String(), err)
}

// FinishRedelivery closes a redelivery of which nothing is left to do; false
// when something is.
func (s *Store) FinishRedelivery(ctx context.Context, id int64) (bool, error) {
	tag, err := s.Pool.Exec(ctx, `UPDATE redelivery r SET state = 'done', finished_at = now() WHERE id = $1 AND state = 'sending'
		AND NOT EXISTS (SELECT FROM redelivery_item WHERE redelivery = r.id AND state IN ('waiting', 'sending'))`, id)
	return tag.RowsAffected() == 1, wrap("finish redelivery", err)
}
