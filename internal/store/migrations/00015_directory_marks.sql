-- How a follower of the directory finds out that its past is not the database's: after a restore, or a failover that lost
-- the last changes, versions are given again. See docs/architecture.md, "Directory changes".

-- +goose Up
CREATE TABLE directory_mark (
    version bigint PRIMARY KEY, -- of a statement's last change
    mark    uuid   NOT NULL UNIQUE DEFAULT gen_random_uuid()
);
INSERT INTO directory_mark (version) SELECT last_value FROM directory_version;

-- Runs under directory_lock's lock. Who is further behind than the oldest mark loads all anew.
-- +goose StatementBegin
CREATE FUNCTION directory_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE newest bigint := (SELECT last_value FROM directory_version);
BEGIN
    INSERT INTO directory_mark (version) VALUES (newest) ON CONFLICT DO NOTHING;
    DELETE FROM directory_mark WHERE version < newest - 100000;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['domain', 'mailbox', 'alias', 'credential', 'outbound_account', 'send_limit'] LOOP
        EXECUTE format('CREATE TRIGGER z_mark AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION directory_note()', t);
    END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT ON directory_mark TO understudy_mail, understudy_auth, understudy_app;
GRANT INSERT, DELETE ON directory_mark TO understudy_app;
GRANT SELECT ON SEQUENCE directory_version TO understudy_app;

-- Does the primary refuse this very address, by its last word (recipient_check)? Then nobody vouches for it while the primary is down.
ALTER TABLE mailbox ADD refused boolean NOT NULL DEFAULT false;
ALTER TABLE alias ADD refused boolean NOT NULL DEFAULT false;

-- Looks before it writes: a statement that changes nothing would take the lock and wake all followers.
-- +goose StatementBegin
CREATE FUNCTION recipient_refused() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE yes boolean := NEW.refused_since IS NOT NULL;
BEGIN
    IF EXISTS (SELECT FROM mailbox WHERE address = NEW.address AND refused <> yes) THEN
        UPDATE mailbox SET refused = yes WHERE address = NEW.address;
    ELSIF EXISTS (SELECT FROM alias WHERE address = NEW.address AND refused <> yes) THEN
        UPDATE alias SET refused = yes WHERE address = NEW.address;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER refused AFTER INSERT OR UPDATE ON recipient_check FOR EACH ROW EXECUTE FUNCTION recipient_refused();
UPDATE mailbox m SET refused = true FROM recipient_check c WHERE c.address = m.address AND c.refused_since IS NOT NULL;
UPDATE alias a SET refused = true FROM recipient_check c WHERE c.address = a.address AND c.refused_since IS NOT NULL;

-- How far each day of the index was read for new addresses: by the order in which messages came into it, however late.
CREATE TABLE recipient_scan_day (
    day date    PRIMARY KEY REFERENCES index_day ON DELETE CASCADE,
    ord integer NOT NULL -- of the next message to read
);
INSERT INTO recipient_scan_day SELECT day, next FROM index_day WHERE day < (now() AT TIME ZONE 'UTC')::date - 1;
DROP TABLE recipient_scan;
GRANT SELECT, INSERT, UPDATE ON recipient_scan_day TO understudy_app;
