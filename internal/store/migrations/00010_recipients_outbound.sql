-- What the primaries say of recipients (docs/recipients.md), and who may send how much through us (docs/outbound.md).

-- +goose Up
-- Part of the directory: customers' servers that sign in. A name has no '@', so that it is nobody's mailbox.
CREATE TABLE outbound_account (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{1,62}$'),
    domain_ids bigint[]    NOT NULL,
    hash       text        NOT NULL,            -- Argon2id in PHC string format
    enabled    boolean     NOT NULL DEFAULT true,
    per_hour   integer     NOT NULL DEFAULT 0 CHECK (per_hour >= 0), -- recipients; 0: policyd's default, as in the other limits here
    per_day    integer     NOT NULL DEFAULT 0 CHECK (per_day >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 0
);
CREATE INDEX ON outbound_account (version);

-- Also part of the directory: a domain's own limits; id is the domain's.
CREATE TABLE send_limit (
    id               bigint  PRIMARY KEY REFERENCES domain ON DELETE CASCADE,
    mailbox_per_hour integer NOT NULL DEFAULT 0 CHECK (mailbox_per_hour >= 0), -- of each mailbox
    mailbox_per_day  integer NOT NULL DEFAULT 0 CHECK (mailbox_per_day >= 0),
    network_per_hour integer NOT NULL DEFAULT 0 CHECK (network_per_hour >= 0), -- of the customer's servers together
    network_per_day  integer NOT NULL DEFAULT 0 CHECK (network_per_day >= 0),
    version          bigint  NOT NULL DEFAULT 0
);

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['outbound_account', 'send_limit'] LOOP
        EXECUTE format('CREATE TRIGGER a_lock BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION directory_lock()', t);
        EXECUTE format('CREATE TRIGGER b_stamp BEFORE INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION directory_stamp()', t);
        EXECUTE format('CREATE TRIGGER c_forget BEFORE DELETE ON %I FOR EACH ROW EXECUTE FUNCTION directory_forget()', t);
    END LOOP;
END $$;
-- +goose StatementEnd

-- Identities are never given twice, so an account never gains a domain by this; it may be left with none.
-- +goose StatementBegin
CREATE FUNCTION outbound_account_follows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE outbound_account SET domain_ids = array_remove(domain_ids, OLD.id) WHERE OLD.id = ANY (domain_ids);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER f_outbound AFTER DELETE ON domain FOR EACH ROW EXECUTE FUNCTION outbound_account_follows();

GRANT SELECT (id, name, domain_ids, enabled, per_hour, per_day, version) ON outbound_account TO understudy_mail;
GRANT SELECT ON outbound_account TO understudy_auth;
GRANT SELECT ON send_limit TO understudy_mail, understudy_auth;

-- What the worker knows of the recipients of a domain. Not part of the directory.
CREATE TABLE recipient_domain (
    domain_id  bigint      PRIMARY KEY REFERENCES domain ON DELETE CASCADE,
    learn      text        NOT NULL DEFAULT 'offer' CHECK (learn IN ('off', 'offer', 'add')),
    catch_all  boolean,                          -- NULL: not known yet
    catch_all_at timestamptz,                    -- of the last answer
    next_at    timestamptz NOT NULL DEFAULT now() -- when the worker asks this primary again
);
CREATE INDEX ON recipient_domain (next_at);

-- Addresses that are not registered and got mail.
CREATE TABLE recipient_offer (
    address    text        PRIMARY KEY,          -- canonical
    domain_id  bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    state      text        NOT NULL DEFAULT 'seen' CHECK (state IN ('seen', 'offered', 'ignored')), -- offered: the primary says it exists
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    asked_at   timestamptz
);
CREATE INDEX ON recipient_offer (domain_id, state, address);

-- What the primary last said of registered mailboxes and aliases.
CREATE TABLE recipient_check (
    address       text        PRIMARY KEY,
    domain_id     bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    asked_at      timestamptz NOT NULL,
    refused_since timestamptz,                   -- NULL: it takes mail, or gave no verdict yet
    marked        boolean     NOT NULL DEFAULT false, -- refused for so long that people are told
    reply         text        NOT NULL DEFAULT ''
);
CREATE INDEX ON recipient_check (domain_id, marked);

-- How far the index of messages was read for new addresses. One row.
CREATE TABLE recipient_scan (
    one  boolean     PRIMARY KEY DEFAULT true CHECK (one),
    upto timestamptz NOT NULL
);
