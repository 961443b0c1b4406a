-- A retention that is shortened hides at once, but removes a week later: a mistake can be put right. And the audit notes more than looks.

-- +goose Up
ALTER TABLE retention
    ADD longer       integer     NOT NULL DEFAULT 0,           -- days: the longest retention of the last week, when it is not this one
    ADD longer_until timestamptz NOT NULL DEFAULT '-infinity'; -- until then what it keeps is not removed
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION retention_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retention AS r (domain, days) VALUES (NEW.name, NEW.retention_days) ON CONFLICT (domain) DO UPDATE SET days = EXCLUDED.days,
        longer = CASE WHEN EXCLUDED.days < r.days THEN greatest(r.days, CASE WHEN r.longer_until > now() THEN r.longer END) ELSE r.longer END,
        longer_until = CASE WHEN EXCLUDED.days < r.days THEN now() + interval '7 days' ELSE r.longer_until END;
    RETURN NULL;
END $$;

-- The rule of removal: may the bytes and rows of a mailbox's message of that time go at that moment? archive_needed is that of what is visible.
CREATE FUNCTION archive_kept(of_mailbox text, of_domain text, received timestamptz, at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT archive_needed(of_mailbox, of_domain, received, at) OR coalesce(received > at - make_interval(hours => 24 *
        (SELECT max(r.longer) FROM retention r WHERE of_domain IN (r.domain, '') AND r.longer_until > at)), false)
$$;

-- Drops a day's tables when nothing in them is kept at that moment (at most now) and says so. It does not wait for long: false.
CREATE OR REPLACE FUNCTION drop_expired_partition(day date, at timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    messages text := 'message_' || to_char(day, 'YYYYMMDD');
    boxes    text := 'message_mailbox_' || to_char(day, 'YYYYMMDD');
    ends     timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    kept     boolean;
BEGIN
    at := least(at, now());
    IF to_regclass(messages) IS NULL OR ends > at - interval '24 hours' THEN
        RETURN false;
    END IF;
    FOR turn IN 1..2 LOOP -- once to see, once to be sure
        EXECUTE format('SELECT EXISTS (SELECT FROM (SELECT mailbox, domain, max(received) AS last FROM %I GROUP BY 1, 2) x WHERE archive_kept(mailbox, domain, last, $1))
            OR archive_kept('''', '''', $2, $1) AND EXISTS (SELECT FROM %I m WHERE NOT EXISTS (SELECT FROM %I x WHERE x.received = m.received AND x.id = m.id))',
            boxes, messages, boxes) INTO kept USING at, ends;
        IF kept THEN
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

ALTER TABLE audit DROP CONSTRAINT audit_action_check,
    ADD CONSTRAINT audit_action_check CHECK (action IN ('view', 'source', 'download', 'redeliver', 'export', 'retention'));
COMMENT ON COLUMN audit.message IS 'zero where it is not about one message';
