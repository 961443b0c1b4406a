-- The words of messages leave the rows: for each day a table of postings says which messages have a word, and where in them (docs/search.md,
-- internal/store/index_posting.go). The index is filled anew from the log.

-- +goose Up
TRUNCATE message, message_mailbox, segment_mailbox, segment;
DROP TABLE message, message_mailbox;

CREATE TABLE message (
    id          uuid        NOT NULL,
    received    timestamptz NOT NULL,
    ord         integer     NOT NULL,             -- number within its day; the postings speak of messages by it
    direction   text        NOT NULL CHECK (direction IN ('inbound', 'outbound', 'internal')),
    sender      text        NOT NULL,             -- envelope sender, '' is <>
    recipients  text[]      NOT NULL,             -- envelope recipients, Bcc among them: for admins only
    subject     text        NOT NULL,
    from_header text        NOT NULL,
    to_header   text        NOT NULL,
    cc_header   text        NOT NULL,
    message_id  text        NOT NULL,
    size        bigint      NOT NULL,             -- octets of the message
    attachments text[]      NOT NULL,
    route       text[]      NOT NULL,             -- where it went on its arrival: primary, portal, internet
    client      text        NOT NULL DEFAULT '',
    sasl_user   text        NOT NULL DEFAULT '',
    queue_id    text        NOT NULL DEFAULT '',
    segment     text        NOT NULL,
    seg_offset  bigint      NOT NULL,
    seg_length  bigint      NOT NULL,
    PRIMARY KEY (received, id)
) PARTITION BY RANGE (received);
CREATE INDEX ON message (id);

-- Which mailbox may see a message. Access is decided here, in SQL.
CREATE TABLE message_mailbox (
    received timestamptz NOT NULL,
    id       uuid        NOT NULL,
    mailbox  text        NOT NULL,                -- canonical address
    domain   text        NOT NULL,
    PRIMARY KEY (received, id, mailbox)
) PARTITION BY RANGE (received);

-- A day of the index. Who adds to a day locks its row.
CREATE TABLE index_day (
    day      date    PRIMARY KEY,
    next     integer NOT NULL DEFAULT 0,          -- ord of the next message
    newest   timestamptz NOT NULL DEFAULT '-infinity',
    slack    bigint  NOT NULL DEFAULT 0,          -- microseconds: no message was received longer before one with a smaller ord
    batches  integer NOT NULL DEFAULT 0,          -- that posting_DAY has
    recent   integer NOT NULL DEFAULT 0,          -- messages whose postings are in posting_recent
    added_at timestamptz NOT NULL DEFAULT now()
);

-- Postings of small batches, until there are enough of them to move to posting_YYYYMMDD, which each day has.
CREATE TABLE posting_recent (
    day   date     NOT NULL,
    word  text     COLLATE "C" NOT NULL,
    field smallint NOT NULL,
    batch integer  NOT NULL,                      -- ord of its first message
    docs  bytea    NOT NULL,
    pos   bytea    NOT NULL,
    PRIMARY KEY (day, word, field, batch)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_threshold = -1);

-- The worker holds no DDL rights: what it needs of them are these functions, which run as the owner.
-- +goose StatementBegin
CREATE FUNCTION posting_table(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (word text COLLATE "C" NOT NULL, field smallint NOT NULL, batch integer NOT NULL, docs bytea NOT NULL, pos bytea NOT NULL)', name);
    EXECUTE format('ALTER TABLE %I ALTER docs SET STORAGE EXTERNAL', name); -- compact as it is
    BEGIN
        EXECUTE format('ALTER TABLE %I ALTER pos SET COMPRESSION lz4', name);
    EXCEPTION WHEN feature_not_supported THEN NULL; -- a server built without lz4 uses pglz
    END;
END $$;

CREATE OR REPLACE FUNCTION ensure_message_partition(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    suffix text := to_char(day, '_YYYYMMDD');
    t text;
BEGIN
    PERFORM pg_advisory_xact_lock(7526843, 2);
    IF EXISTS (SELECT FROM index_day x WHERE x.day = ensure_message_partition.day) THEN
        RETURN;
    END IF;
    FOREACH t IN ARRAY ARRAY['message', 'message_mailbox'] LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', t || suffix, t,
            day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
    EXECUTE format('CREATE UNIQUE INDEX ON %I (ord)', 'message' || suffix);
    PERFORM posting_table('posting' || suffix);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (word, field, batch)', 'posting' || suffix);
    EXECUTE format('GRANT SELECT ON %I, %I TO understudy_app', 'message' || suffix, 'message_mailbox' || suffix); -- searched one by one
    EXECUTE format('GRANT SELECT, INSERT ON %I TO understudy_app', 'posting' || suffix);
    INSERT INTO index_day (day) VALUES (day);
END $$;

-- Puts all postings of a day into one batch, in the order of words.
-- It does not wait for long.
CREATE FUNCTION compact_index_day(of_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    old text := 'posting' || to_char(of_day, '_YYYYMMDD');
    new text := old || '_new';
BEGIN
    PERFORM FROM index_day WHERE day = of_day AND (batches > 1 OR recent > 0) FOR UPDATE; -- nobody adds meanwhile
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM posting_table(new);
    EXECUTE format('INSERT INTO %I SELECT word, field, min(batch), string_agg(docs, '''' ORDER BY batch), string_agg(pos, '''' ORDER BY batch)
        FROM (SELECT word, field, batch, docs, pos FROM %I UNION ALL SELECT word, field, batch, docs, pos FROM posting_recent WHERE day = %L) x
        GROUP BY word, field ORDER BY word, field', new, old, of_day);
    EXECUTE format('DROP TABLE %I', old);
    EXECUTE format('ALTER TABLE %I RENAME TO %I', new, old);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (word, field, batch)', old);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO understudy_app', old);
    DELETE FROM posting_recent WHERE day = of_day;
    UPDATE index_day SET batches = 1, recent = 0 WHERE day = of_day;
END $$;

-- Drops the days that have no messages any more.
CREATE FUNCTION drop_empty_index_days() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_day date;
    suffix text;
    filled boolean;
BEGIN
    FOR of_day IN SELECT day FROM index_day WHERE next > 0 ORDER BY day FOR UPDATE LOOP
        suffix := to_char(of_day, '_YYYYMMDD');
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', 'message' || suffix) INTO filled;
        IF NOT filled THEN
            EXECUTE format('DROP TABLE %I, %I, %I', 'message' || suffix, 'message_mailbox' || suffix, 'posting' || suffix);
            DELETE FROM posting_recent WHERE day = of_day;
            DELETE FROM index_day WHERE day = of_day;
        END IF;
    END LOOP;
END $$;

-- Drops a day's tables when nothing in them is needed at that moment (at most now) and says so. It does not wait for long: false.
CREATE OR REPLACE FUNCTION drop_expired_partition(day date, at timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    messages text := 'message_' || to_char(day, 'YYYYMMDD');
    boxes    text := 'message_mailbox_' || to_char(day, 'YYYYMMDD');
    ends     timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    needed   boolean;
BEGIN
    at := least(at, now());
    IF to_regclass(messages) IS NULL OR ends > at - interval '24 hours' THEN
        RETURN false;
    END IF;
    FOR turn IN 1..2 LOOP -- once to see, once to be sure
        EXECUTE format('SELECT EXISTS (SELECT FROM (SELECT mailbox, domain, max(received) AS last FROM %I GROUP BY 1, 2) x WHERE archive_needed(mailbox, domain, last, $1))
            OR archive_needed('''', '''', $2, $1) AND EXISTS (SELECT FROM %I m WHERE NOT EXISTS (SELECT FROM %I x WHERE x.received = m.received AND x.id = m.id))',
            boxes, messages, boxes) INTO needed USING at, ends;
        IF needed THEN
            RETURN false;
        END IF;
        IF turn = 1 THEN
            PERFORM FROM index_day x WHERE x.day = drop_expired_partition.day FOR UPDATE;
            LOCK TABLE legal_hold, retention IN SHARE MODE;
            LOCK TABLE message, message_mailbox IN ACCESS EXCLUSIVE MODE;
        END IF;
    END LOOP;
    EXECUTE format('DROP TABLE %I, %I, %I', messages, boxes, 'posting_' || to_char(day, 'YYYYMMDD'));
    DELETE FROM posting_recent x WHERE x.day = drop_expired_partition.day;
    DELETE FROM index_day x WHERE x.day = drop_expired_partition.day;
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN false;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION posting_table(text), compact_index_day(date), drop_empty_index_days() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION compact_index_day(date), drop_empty_index_days() TO understudy_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON message, message_mailbox, index_day, posting_recent TO understudy_app;
