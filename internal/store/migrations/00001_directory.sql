-- The directory: what the mail services hold in memory. See docs/architecture.md, "Directory changes".

-- +goose Up
CREATE TABLE directory_epoch (epoch uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO directory_epoch DEFAULT VALUES;

CREATE SEQUENCE directory_version;

CREATE TABLE domain (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text        NOT NULL UNIQUE CHECK (name = lower(name) AND name <> ''),
    primaries         text[]      NOT NULL CHECK (cardinality(primaries) BETWEEN 1 AND 16),
    activation        text        NOT NULL DEFAULT 'manual' CHECK (activation IN ('manual', 'observe', 'automatic')),
    scope             text        NOT NULL DEFAULT 'all' CHECK (scope IN ('all', 'selected')),
    mode              text        NOT NULL DEFAULT 'normal' CHECK (mode IN ('normal', 'emergency')),
    mode_since        timestamptz NOT NULL DEFAULT now(),
    mode_manual       boolean     NOT NULL DEFAULT false,
    primary_failing   boolean     NOT NULL DEFAULT false,
    retention_days    integer     NOT NULL DEFAULT 90 CHECK (retention_days BETWEEN 1 AND 3650),
    outbound_networks cidr[]      NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    version           bigint      NOT NULL DEFAULT 0
);

CREATE TABLE mailbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id   bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    address     text        NOT NULL UNIQUE,
    name        text        NOT NULL DEFAULT '',
    covered     boolean     NOT NULL DEFAULT true,
    enabled     boolean     NOT NULL DEFAULT true,
    quota_bytes bigint      NOT NULL DEFAULT 0 CHECK (quota_bytes >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    version     bigint      NOT NULL DEFAULT 0
);
CREATE INDEX ON mailbox (domain_id, address);
CREATE INDEX ON mailbox (version);

CREATE TABLE alias (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id  bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    address    text        NOT NULL UNIQUE,
    mailbox_id bigint      NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 0
);
CREATE INDEX ON alias (mailbox_id);
CREATE INDEX ON alias (version);

CREATE TABLE credential (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mailbox_id bigint      NOT NULL REFERENCES mailbox ON DELETE CASCADE,
    kind       text        NOT NULL CHECK (kind IN ('password', 'app')),
    label      text        NOT NULL DEFAULT '',
    hash       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 0,
    UNIQUE (mailbox_id, kind, label)
);
CREATE INDEX ON credential (version);

CREATE TABLE directory_deleted (
    kind    text   NOT NULL,
    id      bigint NOT NULL,
    version bigint NOT NULL PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now()
);

-- Versions are handed out under one lock held until commit: they become visible in order.
-- +goose StatementBegin
CREATE FUNCTION directory_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7526843, 1);
    PERFORM pg_notify('directory', '');
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION directory_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('directory_version');
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION directory_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO directory_deleted (kind, id, version) VALUES (TG_TABLE_NAME, OLD.id, nextval('directory_version'));
    RETURN OLD;
END $$;
-- +goose StatementEnd

-- An alias must not hide a mailbox, nor a mailbox an alias.
-- +goose StatementBegin
CREATE FUNCTION directory_one_meaning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'alias' AND EXISTS (SELECT FROM mailbox WHERE address = NEW.address)
       OR TG_TABLE_NAME = 'mailbox' AND EXISTS (SELECT FROM alias WHERE address = NEW.address) THEN
        RAISE EXCEPTION 'address % is already a mailbox or an alias', NEW.address USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['domain', 'mailbox', 'alias', 'credential'] LOOP
        EXECUTE format('CREATE TRIGGER a_lock BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION directory_lock()', t);
        EXECUTE format('CREATE TRIGGER b_stamp BEFORE INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION directory_stamp()', t);
        EXECUTE format('CREATE TRIGGER c_forget BEFORE DELETE ON %I FOR EACH ROW EXECUTE FUNCTION directory_forget()', t);
    END LOOP;
END $$;
-- +goose StatementEnd
CREATE TRIGGER d_meaning BEFORE INSERT OR UPDATE OF address ON mailbox FOR EACH ROW EXECUTE FUNCTION directory_one_meaning();
CREATE TRIGGER d_meaning BEFORE INSERT OR UPDATE OF address ON alias FOR EACH ROW EXECUTE FUNCTION directory_one_meaning();

-- Who, when, why: every change of a domain's mode, and what "observe" would have done.
CREATE TABLE mode_change (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id  bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT now(),
    from_mode  text        NOT NULL,
    to_mode    text        NOT NULL,
    actor      text        NOT NULL,               -- a login, or 'detector'
    manual     boolean     NOT NULL,
    observed   boolean     NOT NULL DEFAULT false, -- only what 'observe' would have done
    reason     text        NOT NULL,
    evidence   jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX ON mode_change (domain_id, at DESC);

-- The worker's last word on each primary, for the website and the command line.
CREATE TABLE primary_health (
    domain_id  bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    host       text        NOT NULL,
    class      text        NOT NULL, -- healthy, unreachable, timeout, tls, server-tempfail, ...
    detail     text        NOT NULL DEFAULT '',
    since      timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    PRIMARY KEY (domain_id, host)
);

GRANT SELECT ON directory_epoch, domain, mailbox, alias, directory_deleted TO understudy_mail, understudy_auth, understudy_app;
GRANT SELECT ON credential TO understudy_auth, understudy_app;
GRANT INSERT, UPDATE, DELETE ON domain, mailbox, alias, credential TO understudy_app;
GRANT INSERT, DELETE ON directory_deleted TO understudy_app;
GRANT USAGE ON SEQUENCE directory_version TO understudy_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON mode_change, primary_health TO understudy_app;
