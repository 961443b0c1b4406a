-- The index of the archive log. It can be dropped and rebuilt from the segments.

-- +goose Up
CREATE TABLE segment (
    name       text PRIMARY KEY,                  -- file name, see docs/archive-format.md
    indexed    bigint      NOT NULL DEFAULT 0,    -- bytes of the file that are in the index
    sealed     boolean     NOT NULL DEFAULT false,
    damaged    bigint      NOT NULL DEFAULT 0,    -- bytes skipped as unreadable
    records    bigint      NOT NULL DEFAULT 0,
    first_seen timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE message (
    id          uuid        NOT NULL,
    received    timestamptz NOT NULL,
    direction   text        NOT NULL CHECK (direction IN ('inbound', 'outbound', 'internal')),
    sender      text        NOT NULL,             -- envelope sender, '' is <>
    recipients  text[]      NOT NULL,             -- envelope recipients, Bcc among them: for admins only
    subject     text        NOT NULL,
    from_header text        NOT NULL,
    to_header   text        NOT NULL,             -- To and Cc
    message_id  text        NOT NULL,
    size        bigint      NOT NULL,             -- octets of the message
    attachments text[]      NOT NULL,
    client      text        NOT NULL DEFAULT '',
    sasl_user   text        NOT NULL DEFAULT '',
    queue_id    text        NOT NULL DEFAULT '',
    segment     text        NOT NULL,
    seg_offset  bigint      NOT NULL,
    seg_length  bigint      NOT NULL,
    tsv         tsvector    NOT NULL,
    PRIMARY KEY (received, id)
) PARTITION BY RANGE (received);
CREATE INDEX ON message USING gin (tsv);
CREATE INDEX ON message (id);

-- Which mailbox may see a message. Access is decided here, in SQL.
CREATE TABLE message_mailbox (
    received timestamptz NOT NULL,
    id       uuid        NOT NULL,
    mailbox  text        NOT NULL,                -- canonical address
    domain   text        NOT NULL,
    PRIMARY KEY (received, id, mailbox)
) PARTITION BY RANGE (received);
CREATE INDEX ON message_mailbox (mailbox, received DESC, id);
CREATE INDEX ON message_mailbox (domain, received DESC, id);

-- The worker holds no DDL rights: it makes partitions through this function, which runs as the owner.
-- +goose StatementBegin
CREATE FUNCTION ensure_message_partition(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t text;
BEGIN
    PERFORM pg_advisory_xact_lock(7526843, 2);
    FOREACH t IN ARRAY ARRAY['message', 'message_mailbox'] LOOP
        IF to_regclass(t || '_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                t || '_' || to_char(day, 'YYYYMMDD'), t,
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ensure_message_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_message_partition(date) TO understudy_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON segment, message, message_mailbox TO understudy_app;
