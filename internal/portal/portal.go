// Package portal is the client of the portal mailboxes in Dovecot: doveadm
// over HTTP says what lies in an INBOX (only it knows a message's GUID), IMAP
// as master user fetches and removes it (doveadm over HTTP mangles 8-bit
// content).
//
// https://doc.dovecot.org/2.3/admin_manual/doveadm_http_api/ and RFC 9051.
//
// When Dovecot is down, busy or does not know the mailbox, every method
// returns an error within its deadline; all of them are temporary. A master
// login to a user that does not exist is a connection closed without a reply,
// so that "gone" and "down" cannot be told apart there. Dovecot opens an INBOX
// that is missing by making it, and the mailbox's home with it; only Counts
// looks first.
package portal

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"time"
)

// Errors that callers tell apart.
var (
	// ErrGone: the message is no longer in INBOX; its owner moved or removed it.
	ErrGone = errors.New("message is gone from INBOX")
	// ErrRenumbered: INBOX was rebuilt since it was listed; its UIDs mean
	// other messages now. List it again.
	ErrRenumbered = errors.New("INBOX was renumbered")
)

// Config says how Dovecot is reached.
type Config struct {
	DoveadmURL     string        // "http://host:port", without the path
	APIKey         string        // doveadm_api_key
	IMAPAddress    string        // "host:port", plaintext: loopback or a private network
	MasterUser     string        // of a passdb with master = yes
	MasterPassword string        //
	Timeout        time.Duration // for one request or command, but not for content; 0: 30 s
}

// Client talks to the portal. Its methods may be called at once from many
// goroutines.
type Client struct {
	cfg  Config
	key  string
	http *http.Client
	used used
}

// New returns a client; it does no I/O.
func New(cfg Config) *Client {
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	return &Client{
		cfg:  cfg,
		key:  "X-Dovecot-API " + base64.StdEncoding.EncodeToString([]byte(cfg.APIKey)),
		http: &http.Client{Timeout: cfg.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}},
	}
}
