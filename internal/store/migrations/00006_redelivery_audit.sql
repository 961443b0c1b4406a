-- Archived messages that are delivered again, and who looked at whose mail.

-- +goose Up
CREATE TABLE redelivery (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor       text        NOT NULL,              -- who asked for it: a login, or 'command line'
    at          timestamptz NOT NULL DEFAULT now(),
    access      jsonb       NOT NULL,              -- whose mail the actor may see, as of then
    query       text        NOT NULL DEFAULT '',   -- what was searched for; '' when messages were chosen one by one
    mailbox     text        NOT NULL DEFAULT '',   -- only to this one; '' is every one that has the message
    state       text        NOT NULL CHECK (state IN ('collecting', 'sending', 'done')),
    total       bigint      NOT NULL DEFAULT 0,    -- items; grows while collecting
    done        bigint      NOT NULL DEFAULT 0,
    failed      bigint      NOT NULL DEFAULT 0,
    finished_at timestamptz
);
CREATE INDEX ON redelivery (actor, id DESC);

-- One message for one mailbox: the key is why it comes once only.
CREATE TABLE redelivery_item (
    redelivery bigint      NOT NULL REFERENCES redelivery ON DELETE CASCADE,
    message    uuid        NOT NULL,
    mailbox    text        NOT NULL,              -- canonical address
    state      text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'failed')),
    attempts   integer     NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL DEFAULT now(), -- when a waiting one is tried
    reply      text        NOT NULL DEFAULT '',    -- the server's last one
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (redelivery, message, mailbox)
);
CREATE INDEX ON redelivery_item (redelivery, next_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX ON redelivery_item (redelivery, updated_at) WHERE state = 'failed';

-- Every look at somebody else's mail.
CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text        NOT NULL,
    action  text        NOT NULL CHECK (action IN ('view', 'source', 'download', 'redeliver')),
    message uuid        NOT NULL,
    mailbox text        NOT NULL,                  -- whose mail it is
    domain  text        NOT NULL,
    detail  text        NOT NULL DEFAULT ''
);
CREATE INDEX ON audit (domain, id DESC);
CREATE INDEX ON audit (message);

-- The mailbox that an address of an envelope leads to, through an alias if need be.
-- +goose StatementBegin
CREATE FUNCTION mailbox_of(address text) RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT m.address FROM alias a JOIN mailbox m ON m.id = a.mailbox_id WHERE a.address = n), n)
    FROM (SELECT regexp_replace(lower($1), '\+[^@]*@', '@') AS n) AS x
$$;
-- +goose StatementEnd
