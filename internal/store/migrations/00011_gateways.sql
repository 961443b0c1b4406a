-- Several gateways share one index: which of them has a segment, as long as it is in no bucket.

-- +goose Up
ALTER TABLE segment ADD host text NOT NULL DEFAULT ''; -- the gateway's name; '' is not known
