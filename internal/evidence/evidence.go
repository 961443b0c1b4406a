// Package evidence carries what policyd sees of primaries to the worker.
//
// policyd keeps the newest events in a bounded ring and serves them by long
// poll over HTTP on a unix socket; the worker asks for what is after the last
// sequence number it saw. When the worker is gone, old events fall out: they
// are evidence, not mail. When policyd restarted, its boot id tells the
// worker to begin anew.
package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Class is the kind of an event.
type Class string

// What policyd can see.
const (
	// Fallback: a message for a registered recipient came to re-entry, so an
	// attempt at the primary has just failed.
	Fallback Class = "fallback"
	// FallbackRefused: the same for a recipient that the portal cannot keep;
	// re-entry answered 450 and the message stays queued.
	FallbackRefused Class = "fallback-refused"

	// The others are results of deliveries (smtp_delivery_status_filter), in
	// the words of worker/detect. They name a host, not a domain.
	Unreachable      Class = "unreachable"
	Timeout          Class = "timeout"
	TLS              Class = "tls"
	ServerTempfail   Class = "server-tempfail"
	ServerReject     Class = "server-reject"
	RecipientDefer   Class = "recipient-defer"
	RecipientRefused Class = "recipient-refused"
)

// Event is one thing seen.
type Event struct {
	Seq       uint64    `json:"seq"`
	At        time.Time `json:"at"`
	Domain    string    `json:"domain,omitempty"`
	Host      string    `json:"host,omitempty"` // of a primary, without its port
	Class     Class     `json:"class"`
	Recipient string    `json:"recipient,omitempty"`
	Said      string    `json:"said,omitempty"` // by the server; printable
}

// Page is the answer to one poll.
type Page struct {
	Boot   string  `json:"boot"` // changes when policyd starts
	Next   uint64  `json:"next"` // ask for what is after this
	Events []Event `json:"events"`
}

const (
	ringSize = 4096
	pollWait = 10 * time.Second
)

// Ring holds the newest events and serves them.
type Ring struct {
	mu     sync.Mutex
	boot   string
	seq    uint64
	events []Event // oldest first, at most ringSize
	wake   chan struct{}
}

// NewRing returns an empty ring with a new boot id.
func NewRing() *Ring { return &Ring{boot: uuid.NewString(), wake: make(chan struct{})} }

// Add records an event; it never blocks for a reader.
func (r *Ring) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	if len(r.events) == ringSize {
		r.events = append(r.events[:0], r.events[1:]...)
	}
	r.events = append(r.events, e)
	close(r.wake)
	r.wake = make(chan struct{})
}

// after returns the events after seq and a channel closed at the next one.
func (r *Ring) after(boot string, seq uint64) (Page, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if boot != r.boot {
		seq = 0
	}
	p := Page{Boot: r.boot, Next: r.seq}
	for _, e := range r.events {
		if e.Seq > seq {
			p.Events = append(p.Events, e)
		}
	}
	return p, r.wake
}

// ServeHTTP answers GET ?boot=B&after=N, waiting up to 10 s for news.
func (r *Ring) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	boot := req.FormValue("boot")
	seq, _ := strconv.ParseUint(req.FormValue("after"), 10, 64) // absent or odd: from the start
	page, wake := r.after(boot, seq)
	if len(page.Events) == 0 && boot == page.Boot {
		select {
		case <-wake:
			page, _ = r.after(boot, seq)
		case <-time.After(pollWait):
		case <-req.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(page) //nolint:errcheck // the client is gone
}

// Client polls a ring over a unix socket.
type Client struct {
	http *http.Client
	boot string
	next uint64
	gap  bool
}

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: pollWait + 5*time.Second}}
}

// Poll waits for events and returns them; none after about 10 s. Not for use
// by several goroutines.
func (c *Client) Poll(ctx context.Context) ([]Event, error) {
	q := url.Values{"boot": {c.boot}, "after": {strconv.FormatUint(c.next, 10)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://policyd/evidence?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask policyd for evidence: %w", err)
	}
	defer resp.Body.Close()
	var p Page
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask policyd for evidence: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return nil, fmt.Errorf("ask policyd for evidence: %w", err)
	}
	c.gap = c.boot != "" && c.boot != p.Boot || c.boot == p.Boot && len(p.Events) > 0 && p.Events[0].Seq > c.next+1
	c.boot, c.next = p.Boot, p.Next
	return p.Events, nil
}

// Gap reports whether there were events between the last two polls that
// nobody can tell any more: policyd started anew, or more came than the ring
// holds.
func (c *Client) Gap() bool { return c.gap }
