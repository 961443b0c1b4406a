-- The drain ledger: what was sent back to which primary, once.

-- +goose Up
CREATE TABLE drain_ledger (
    mailbox    text        NOT NULL,              -- canonical address
    guid       text        NOT NULL,              -- Dovecot's message GUID
    domain     text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('sending', 'sent', 'done', 'held')),
    attempts   integer     NOT NULL DEFAULT 0,
    size       bigint      NOT NULL DEFAULT 0,
    reply      text        NOT NULL DEFAULT '',   -- the primary's last reply
    first_at   timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (mailbox, guid)
);
CREATE INDEX ON drain_ledger (domain, state);
GRANT SELECT, INSERT, UPDATE, DELETE ON drain_ledger TO understudy_app;
