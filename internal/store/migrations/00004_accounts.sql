-- People who sign in to the website besides mailbox owners, and their sessions.

-- +goose Up
CREATE TABLE account (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login      text        NOT NULL UNIQUE CHECK (login = lower(login) AND login <> ''),
    role       text        NOT NULL CHECK (role IN ('operator', 'admin')),
    hash       text        NOT NULL, -- Argon2id in PHC string format
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The domains of a domain admin.
CREATE TABLE account_domain (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    domain_id  bigint NOT NULL REFERENCES domain ON DELETE CASCADE,
    PRIMARY KEY (account_id, domain_id)
);

-- As github.com/alexedwards/scs/pgxstore wants it.
CREATE TABLE sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL);
CREATE INDEX ON sessions (expiry);

GRANT SELECT, INSERT, UPDATE, DELETE ON account, account_domain, sessions TO understudy_app;
