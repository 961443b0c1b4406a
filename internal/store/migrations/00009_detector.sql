-- The detector's settings of a domain, and what the worker sees of its own network. See docs/detection.md.

-- +goose Up
-- NULL is the worker's default (worker.yml).
ALTER TABLE domain
    ADD detect_failures integer CHECK (detect_failures BETWEEN 1 AND 100),    -- failed probes in a row before an emergency
    ADD detect_storm    integer CHECK (detect_storm BETWEEN 0 AND 100000),    -- deliveries refused for everybody before one; 0: never by these
    ADD probe_seconds   integer CHECK (probe_seconds BETWEEN 1 AND 3600),     -- between probes while all is well
    ADD recover_seconds integer CHECK (recover_seconds BETWEEN 1 AND 86400);  -- healthy without a break before the return

-- One row: whether the worker can see at all.
CREATE TABLE vantage (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    view       text        NOT NULL,            -- clear, second-look, confirmed, own-network
    detail     text        NOT NULL DEFAULT '', -- in words
    since      timestamptz NOT NULL,
    checked_at timestamptz NOT NULL
);
