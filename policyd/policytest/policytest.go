// Package policytest helps the tests of policyd: a small world of domains, a
// builder of policy requests, and clients of both protocols that stand in for
// Postfix where a test must see single bytes.
package policytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/internal/directory"
)

// Quiet is a log for tests that expect trouble.
var Quiet = slog.New(slog.DiscardHandler)

// Domain describes one domain and who is in it.
type Domain struct {
	directory.Domain
	Covered   []string          // local parts of covered mailboxes
	Uncovered []string          // local parts of registered mailboxes that are not covered
	Refused   []string          // of these or Aliases: those that the primary does not have
	Aliases   map[string]string // local part to the local part of a covered mailbox
	Accounts  []string          // logins of the customer's servers
	Limits    directory.SendLimit
}

// Example is a domain with usual settings: automatic, scope all, normal; a
// server at 127.0.0.2; mailboxes ana and bruno, and info for ana.
func Example() Domain {
	return Domain{
		Domain: directory.Domain{Name: "example.test", Primaries: []string{"192.0.2.1:25", "192.0.2.2:2525"},
			Activation: directory.Automatic, Scope: directory.ScopeAll, Mode: directory.Normal,
			OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}},
		Covered: []string{"ana", "bruno"}, Aliases: map[string]string{"info": "ana"},
	}
}

// With returns a changed copy of the domain.
func (d Domain) With(change func(*Domain)) Domain {
	change(&d)
	return d
}

// Directory returns a loaded directory of these domains.
func Directory(domains ...Domain) *directory.Directory {
	dir := directory.New()
	Load(dir, domains...)
	return dir
}

// Load replaces what is in dir, as a full read of PostgreSQL would. Domains
// have the ids 1, 2, ...
func Load(dir *directory.Directory, domains ...Domain) {
	dir.Apply(Change(dir.Version()+1, domains...))
}

// Change is what a full read of PostgreSQL would bring.
func Change(version int64, domains ...Domain) *directory.Change {
	c := &directory.Change{Full: true, Epoch: "test", Version: version}
	for i, d := range domains {
		dom := d.Domain
		dom.ID = int64(i + 1)
		c.Domains = append(c.Domains, &dom)
		ids := map[string]int64{}
		for j, local := range slices.Concat(d.Covered, d.Uncovered) {
			ids[local] = dom.ID<<32 + int64(j)
			c.Mailboxes = append(c.Mailboxes, &directory.Mailbox{ID: ids[local], DomainID: dom.ID,
				Address: local + "@" + dom.Name, Covered: j < len(d.Covered), Enabled: true, Refused: slices.Contains(d.Refused, local)})
		}
		for j, name := range d.Accounts {
			c.Outbound = append(c.Outbound, &directory.OutboundAccount{ID: dom.ID<<32 + int64(j), Name: name, DomainIDs: []int64{dom.ID}, Enabled: true})
		}
		if d.Limits != (directory.SendLimit{}) {
			limits := d.Limits
			limits.ID = dom.ID
			c.Limits = append(c.Limits, &limits)
		}
		for j, local := range slices.Sorted(maps.Keys(d.Aliases)) {
			c.Aliases = append(c.Aliases, &directory.Alias{ID: dom.ID<<32 + int64(j), DomainID: dom.ID,
				Address: local + "@" + dom.Name, MailboxID: ids[d.Aliases[local]], Refused: slices.Contains(d.Refused, local)})
		}
	}
	return c
}

// Request is a policy request as Postfix 3.7 sends it.
type Request struct{ attributes [][2]string }

// NewRequest is RCPT TO:<ana@example.test> by a stranger on port 25.
func NewRequest() *Request {
	return &Request{[][2]string{
		{"request", "smtpd_access_policy"}, {"protocol_state", "RCPT"}, {"protocol_name", "ESMTP"},
		{"client_address", "192.0.2.99"}, {"client_name", "unknown"}, {"client_port", "40000"},
		{"reverse_client_name", "unknown"}, {"server_address", "127.0.0.1"}, {"server_port", "25"},
		{"helo_name", "mx.elsewhere.test"}, {"sender", "someone@elsewhere.test"}, {"recipient", "ana@example.test"},
		{"recipient_count", "0"}, {"queue_id", ""}, {"instance", "7e1.2a.0"}, {"size", "1234"}, {"etrn_domain", ""},
		{"stress", ""}, {"sasl_method", ""}, {"sasl_username", ""}, {"sasl_sender", ""}, {"ccert_subject", ""},
		{"ccert_issuer", ""}, {"ccert_fingerprint", ""}, {"ccert_pubkey_fingerprint", ""}, {"encryption_protocol", ""},
		{"encryption_cipher", ""}, {"encryption_keysize", "0"}, {"policy_context", ""},
	}}
}

// Set changes an attribute, or adds it at the end.
func (r *Request) Set(name, value string) *Request {
	for i := range r.attributes {
		if r.attributes[i][0] == name {
			r.attributes[i][1] = value
			return r
		}
	}
	r.attributes = append(r.attributes, [2]string{name, value})
	return r
}

// Recipient sets the envelope recipient.
func (r *Request) Recipient(address string) *Request { return r.Set("recipient", address) }

// Sender sets the envelope sender.
func (r *Request) Sender(address string) *Request { return r.Set("sender", address) }

// Client sets the client's IP address.
func (r *Request) Client(ip string) *Request { return r.Set("client_address", ip) }

// Context sets the policy context.
func (r *Request) Context(name string) *Request { return r.Set("policy_context", name) }

// String is the request on the wire.
func (r *Request) String() string {
	var b strings.Builder
	for _, a := range r.attributes {
		fmt.Fprintf(&b, "%s=%s\n", a[0], a[1])
	}
	return b.String() + "\n"
}

// Client is one connection to policyd.
type Client struct {
	net.Conn
	r *bufio.Reader
}

// Dial connects to "unix:PATH" or "inet:host:port". All that the connection
// does must be over within ten minutes.
func Dial(where string) (*Client, error) {
	kind, address, _ := strings.Cut(where, ":")
	network := map[string]string{"unix": "unix", "inet": "tcp"}[kind]
	c, err := net.DialTimeout(network, address, time.Minute)
	if err != nil {
		return nil, err
	}
	return &Client{c, bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(10 * time.Minute))
}

// Ask sends a policy request and returns the action.
func (c *Client) Ask(r *Request) (string, error) {
	if _, err := io.WriteString(c, r.String()); err != nil {
		return "", err
	}
	return c.Action()
}

// ErrTorn marks an answer of which only a part came.
var ErrTorn = errors.New("answer is torn")

// Action reads one policy answer.
func (c *Client) Action() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil && line != "" {
		return "", fmt.Errorf("%w: %q, then %w", ErrTorn, line, err)
	}
	if err != nil {
		return "", err
	}
	end, err := c.r.ReadString('\n')
	action, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "action=")
	if err != nil || end != "\n" || !ok {
		return "", fmt.Errorf("%w: %q %q, %w", ErrTorn, line, end, err)
	}
	return action, nil
}

// Lookup sends a socketmap request and returns the reply.
func (c *Client) Lookup(name, key string) (string, error) {
	request := name + " " + key
	if _, err := fmt.Fprintf(c, "%d:%s,", len(request), request); err != nil {
		return "", err
	}
	return c.Reply()
}

// Reply reads one socketmap reply.
func (c *Client) Reply() (string, error) {
	length, err := c.r.ReadString(':')
	if err != nil && length != "" {
		return "", fmt.Errorf("%w: %q, then %w", ErrTorn, length, err)
	}
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || n > 100_000 {
		return "", fmt.Errorf("reply length %q: %w", length, err)
	}
	body := make([]byte, n+1)
	if _, err := io.ReadFull(c.r, body); err != nil || body[n] != ',' {
		return "", fmt.Errorf("%w: %q, %w", ErrTorn, body, err)
	}
	return string(body[:n]), nil
}
