package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Shipment is what is known of a segment's copy in the bucket.
type Shipment struct {
	Segment  string     `db:"name" json:"segment"`
	Size     int64      `db:"size" json:"size"`               // bytes
	SHA256   []byte     `db:"sha256" json:"sha256"`           // of the whole file
	Begun    time.Time  `db:"begun_at" json:"begun_at"`       // of the last upload
	Verified *time.Time `db:"verified_at" json:"verified_at"` // read back whole, and the same
	Removed  *time.Time `db:"removed_at" json:"removed_at"`   // expired (ExpireSegment): never to be sent, its object is to be deleted
}

// Shipments returns all that was ever begun to be shipped and is not
// forgotten, by segment.
func (s *Store) Shipments(ctx context.Context) (map[string]Shipment, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name, size, sha256, begun_at, verified_at, removed_at FROM segment_shipping`)
	if err != nil {
		return nil, wrap("read shipped segments", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Shipment])
	if err != nil {
		return nil, wrap("read shipped segments", err)
	}
	out := make(map[string]Shipment, len(list))
	for _, x := range list {
		out[x.Segment] = x
	}
	return out, nil
}

// ShippedSegments returns the segments that were once seen whole in the bucket
// and have not expired, with their bytes.
func (s *Store) ShippedSegments(ctx context.Context) (map[string]int64, error) {
	known, err := s.Shipments(ctx)
	out := map[string]int64{}
	for name, k := range known {
		if k.Verified != nil && k.Removed == nil {
			out[name] = k.Size
		}
	}
	return out, err
}

// BeginShipping records that an upload is about to start, for the first time
// or anew; from then on an object may be in the bucket. It reports false when
// the segment has expired and must not be shipped.
func (s *Store) BeginShipping(ctx context.Context, segment string, size int64, sha256 []byte) (bool, error) {
	tag, err := s.Pool.Exec(ctx, `INSERT INTO segment_shipping (name, size, sha256) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET size = $2, sha256 = $3, begun_at = now(), verified_at = NULL WHERE segment_shipping.removed_at IS NULL`, segment, size, sha256)
	return tag.RowsAffected() == 1, wrap("begin to ship "+segment, err)
}

// FinishShipping records that the bucket's copy was read back and is whole. It
// reports false when the segment has expired meanwhile.
func (s *Store) FinishShipping(ctx context.Context, segment string) (bool, error) {
	tag, err := s.Pool.Exec(ctx, `UPDATE segment_shipping SET verified_at = now() WHERE name = $1 AND removed_at IS NULL`, segment)
	return tag.RowsAffected() == 1, wrap("finish shipping "+segment, err)
}

// ForgetShipping drops what is known of a segment's copy, when the bucket has
// none (any more).
func (s *Store) ForgetShipping(ctx context.Context, segment string) error {
	_, err := s.Pool.Exec(ctx, `DELETE FROM segment_shipping WHERE name = $1`, segment)
	return wrap("forget shipped segment "+segment, err)
}
