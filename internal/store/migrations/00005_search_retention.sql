-- Search in words of our own making, retention by domain, legal holds. The index is filled anew from the log.

-- +goose Up
TRUNCATE message, message_mailbox, segment;

-- tsv holds words and, with a prefix, what narrows a search (internal/store/index_words.go): one GIN scan does all of it.
-- The pending list is read by each search of the day: keep it short.
DROP INDEX message_tsv_idx;
CREATE INDEX message_tsv_idx ON message USING gin (tsv) WITH (gin_pending_list_limit = 256);
DROP INDEX message_mailbox_mailbox_received_id_idx, message_mailbox_domain_received_id_idx;
CREATE INDEX ON message_mailbox (mailbox, received, id);
CREATE INDEX ON message_mailbox (domain, received, id);
-- +goose StatementBegin
DO $$
BEGIN
    ALTER TABLE message ALTER tsv SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL; -- a server built without lz4 uses pglz
END $$;
-- +goose StatementEnd

-- How long a domain's messages are kept. A removed domain keeps its last word.
CREATE TABLE retention (
    domain text    PRIMARY KEY,
    days   integer NOT NULL
);
INSERT INTO retention SELECT name, retention_days FROM domain;
-- +goose StatementBegin
CREATE FUNCTION retention_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retention VALUES (NEW.name, NEW.retention_days) ON CONFLICT (domain) DO UPDATE SET days = EXCLUDED.days;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER e_retention AFTER INSERT OR UPDATE OF name, retention_days ON domain FOR EACH ROW EXECUTE FUNCTION retention_follows();

CREATE TABLE legal_hold (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain   text        NOT NULL,
    mailbox  text        NOT NULL DEFAULT '',      -- canonical address; '' is the whole domain
    since    timestamptz NOT NULL DEFAULT now(),
    actor    text        NOT NULL,
    reason   text        NOT NULL,
    ended_at timestamptz,
    ended_by text        NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX ON legal_hold (domain, mailbox) WHERE ended_at IS NULL;

-- Whose messages a segment has, and the newest of each; mailbox '' is for bytes of which that is not known.
CREATE TABLE segment_mailbox (
    segment text        NOT NULL REFERENCES segment ON DELETE CASCADE,
    mailbox text        NOT NULL,
    domain  text        NOT NULL,
    last    timestamptz NOT NULL,
    PRIMARY KEY (segment, mailbox)
);

-- The one rule: is a mailbox's message of that time still kept at that moment? A domain that was never registered here, and bytes
-- that belong to nobody known (domain ''), are kept as long as may be.
-- +goose StatementBegin
CREATE FUNCTION archive_needed(of_mailbox text, of_domain text, received timestamptz, at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT received > at - make_interval(hours => 24 * coalesce((SELECT max(r.days) FROM retention r WHERE of_domain IN (r.domain, '')), 3650))
        OR EXISTS (SELECT FROM legal_hold h WHERE h.ended_at IS NULL AND (of_domain = '' OR h.domain = of_domain AND h.mailbox IN ('', of_mailbox)))
$$;
-- +goose StatementEnd

-- Drops a day's partitions when nothing in them is needed at that moment (at most now) and says so. It does not wait for long: false.
-- +goose StatementBegin
CREATE FUNCTION drop_expired_partition(day date, at timestamptz) RETURNS boolean
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
            LOCK TABLE legal_hold, retention IN SHARE MODE;
            LOCK TABLE message, message_mailbox IN ACCESS EXCLUSIVE MODE;
        END IF;
    END LOOP;
    EXECUTE format('DROP TABLE %I, %I', messages, boxes);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION drop_expired_partition(date, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_expired_partition(date, timestamptz) TO understudy_app;

-- Words lie apart from the row (toast_tuple_target), so that a search that reads many rows reads few pages.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION ensure_message_partition(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t text;
BEGIN
    PERFORM pg_advisory_xact_lock(7526843, 2);
    FOREACH t IN ARRAY ARRAY['message', 'message_mailbox'] LOOP
        IF to_regclass(t || '_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L) WITH (toast_tuple_target = 256)',
                t || '_' || to_char(day, 'YYYYMMDD'), t,
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            EXECUTE format('GRANT SELECT ON %I TO understudy_app', t || '_' || to_char(day, 'YYYYMMDD')); -- searched one by one
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
