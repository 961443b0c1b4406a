-- What of the archive lies in the bucket, see docs/shipping.md. The bucket itself is the truth: this table may be lost.

-- +goose Up
CREATE TABLE segment_shipping (
    name        text PRIMARY KEY,                   -- file name, see docs/archive-format.md
    size        bigint      NOT NULL DEFAULT 0,     -- bytes
    sha256      bytea       NOT NULL DEFAULT '',    -- of the whole file
    begun_at    timestamptz NOT NULL DEFAULT now(), -- of the first upload
    verified_at timestamptz,                        -- read back whole, and the same
    removed_at  timestamptz                         -- expired: never to be shipped; its object is to be deleted
);
CREATE INDEX ON segment_shipping (removed_at) WHERE removed_at IS NOT NULL;
CREATE INDEX ON segment_shipping (name) WHERE verified_at IS NULL;
