-- Each gateway drains its own portal: in whose INBOX a message lies.

-- +goose Up
ALTER TABLE drain_ledger ADD gateway text NOT NULL DEFAULT ''; -- its name; '' until its worker takes the row over
ALTER TABLE drain_ledger DROP CONSTRAINT drain_ledger_pkey, ADD PRIMARY KEY (gateway, mailbox, guid);
CREATE INDEX ON drain_ledger (gateway, domain) WHERE state <> 'done';
