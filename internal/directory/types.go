// Package directory is the in-memory picture of domains, mailboxes and
// aliases from which every mail decision is answered.
//
// It follows PostgreSQL (LISTEN/NOTIFY, see Follower) and is saved to disk,
// so that a restart without PostgreSQL still answers. When PostgreSQL is down
// it keeps answering from what it last saw; nothing here waits for it.
package directory

import (
	"net/netip"
	"time"

	"understudy/internal/address"
)

// Mode says where a domain's mail goes.
type Mode string

// The two modes of a domain.
const (
	Normal    Mode = "normal"    // to the primary
	Emergency Mode = "emergency" // to the portal
)

// Activation says who may switch a domain's mode.
type Activation string

// The three activations, set by the operator.
const (
	Manual    Activation = "manual"    // only people switch
	Observe   Activation = "observe"   // the detector reports what it would have done
	Automatic Activation = "automatic" // the detector switches; failed deliveries fall back at once
)

// Scope says which recipients of a domain are covered.
type Scope string

// The two scopes of a domain.
const (
	ScopeAll      Scope = "all"      // every address of the domain
	ScopeSelected Scope = "selected" // mailboxes marked as covered
)

// Domain is one customer domain.
type Domain struct {
	ID               int64          `db:"id" json:"id"`
	Name             string         `db:"name" json:"name"`           // A-label form, lower case
	Primaries        []string       `db:"primaries" json:"primaries"` // as package nexthop reads them, tried in order
	Activation       Activation     `db:"activation" json:"activation"`
	Scope            Scope          `db:"scope" json:"scope"`
	Mode             Mode           `db:"mode" json:"mode"`
	ModeSince        time.Time      `db:"mode_since" json:"mode_since"`
	ModeManual       bool           `db:"mode_manual" json:"mode_manual"`         // set by a person: never ended by the machine
	PrimaryFailing   bool           `db:"primary_failing" json:"primary_failing"` // the worker's present judgement
	RetentionDays    int            `db:"retention_days" json:"retention_days"`
	OutboundNetworks []netip.Prefix `db:"outbound_networks" json:"outbound_networks"`       // the customer's own servers
	DetectFailures   *int           `db:"detect_failures" json:"detect_failures,omitempty"` // these four: nil is the worker's default
	DetectStorm      *int           `db:"detect_storm" json:"detect_storm,omitempty"`
	ProbeSeconds     *int           `db:"probe_seconds" json:"probe_seconds,omitempty"`
	RecoverSeconds   *int           `db:"recover_seconds" json:"recover_seconds,omitempty"`
	Version          int64          `db:"version" json:"version"`
}

// Mailbox is one registered mailbox.
type Mailbox struct {
	ID         int64  `db:"id" json:"id"`
	DomainID   int64  `db:"domain_id" json:"domain_id"`
	Address    string `db:"address" json:"address"` // canonical, see package address
	Name       string `db:"name" json:"name"`
	Covered    bool   `db:"covered" json:"covered"`           // matters in domains of scope "selected"
	Enabled    bool   `db:"enabled" json:"enabled"`           // may log in
	QuotaBytes int64  `db:"quota_bytes" json:"quota_bytes"`   // 0: the portal's default
	Refused    bool   `db:"refused" json:"refused,omitempty"` // by the primary's last word it does not exist there
	Version    int64  `db:"version" json:"version"`
}

// Alias is another address of a mailbox.
type Alias struct {
	ID        int64  `db:"id" json:"id"`
	DomainID  int64  `db:"domain_id" json:"domain_id"`
	Address   string `db:"address" json:"address"`
	MailboxID int64  `db:"mailbox_id" json:"mailbox_id"`
	Refused   bool   `db:"refused" json:"refused,omitempty"` // as of a Mailbox
	Version   int64  `db:"version" json:"version"`
}

// Credential is one password of a mailbox: its main one or an app password.
type Credential struct {
	ID        int64  `db:"id" json:"id"`
	MailboxID int64  `db:"mailbox_id" json:"mailbox_id"`
	Kind      string `db:"kind" json:"kind"` // "password" or "app"
	Label     string `db:"label" json:"label"`
	Hash      string `db:"hash" json:"hash"` // Argon2id in PHC string format
	Version   int64  `db:"version" json:"version"`
}

// Recipient is what the directory knows of one address.
type Recipient struct {
	Address    address.Address
	Domain     *Domain  // nil: not a domain of ours
	Mailbox    *Mailbox // nil: not registered
	Covered    bool     // under continuity: archived, and (if registered) kept by the portal
	Registered bool
	Refused    bool // registered, but unknown to the primary when it was last asked
}
