-- When most primaries failed at once: what the worker made of it, for every domain's timeline. See docs/detection.md.

-- +goose Up
CREATE TABLE network_episode (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began   timestamptz NOT NULL,
    ended   timestamptz,          -- NULL: it goes on
    outcome text        NOT NULL CHECK (outcome IN ('second-look', 'own-network', 'confirmed')), -- what the worker came to
    reason  text        NOT NULL  -- the evidence for that, in words
);
CREATE INDEX ON network_episode (began DESC);
CREATE UNIQUE INDEX network_episode_open ON network_episode ((true)) WHERE ended IS NULL;
GRANT SELECT, INSERT, UPDATE, DELETE ON network_episode TO understudy_app;
