package matrix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/directory"
	"understudy/internal/stack"
	"understudy/internal/store"
	"understudy/internal/wait"
)

// still: all but the worker, so that nobody switches a mode, and the stand-in
// primary, whose part the scripts play. With the worker it is switching.
var (
	still     = []stack.Component{stack.Postgres, stack.Policyd, stack.DovecotAuth, stack.Milter, stack.Dovecot, stack.Postfix, stack.Internet, stack.Admin}
	switching = append(slices.Clone(still), stack.Worker)
)

// timeout is that of each stage here, and what the resolver takes for A and
// AAAA; most of an installation's are longer.
const timeout = 10 * time.Second

// patience is how long a test waits for what must come.
const patience = 5 * time.Minute

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// world is the running stack and what is seen of it.
type world struct {
	stack   *stack.Stack
	bounces bounces
	queue   queue
	portal  portal
}

// begin starts the stack, with domains and mailboxes in its directory.
func begin(t *testing.T, components []stack.Component, domains []*directory.Domain, boxes []string, extra stack.Variables) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "us-m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	vars := stack.Variables{
		"postfix_inet_protocols":            "all",
		"postfix_primary_connect_timeout":   seconds(timeout),
		"postfix_primary_helo_timeout":      seconds(timeout),
		"postfix_primary_mail_timeout":      seconds(timeout),
		"postfix_primary_rcpt_timeout":      seconds(timeout),
		"postfix_primary_data_init_timeout": seconds(timeout),
		"postfix_primary_data_xfer_timeout": seconds(timeout),
		"postfix_primary_data_done_timeout": seconds(timeout),
		"postfix_probe_auto_timeout":        seconds(timeout / 2),
		// A message that is queued stays so: what is seen is the first attempt.
		"postfix_minimal_backoff_time": "1h", "postfix_maximal_backoff_time": "1h",
	}
	for k, v := range extra {
		vars[k] = v
	}
	st, err := stack.Up(t.Context(), stack.Options{Dir: run, RepoRoot: repoRoot, Bin: bin, Only: components, Variables: vars, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(st.Dir(), "log", "postfix.log"))
			t.Logf("postfix.log:\n%s", text[max(0, len(text)-60_000):])
		}
		if err := stack.Down(context.WithoutCancel(t.Context()), run, nil); err != nil {
			t.Error(err)
		}
	})
	w := &world{stack: st}
	// A sender waits for a probe as long as it takes.
	if out, err := exec.Command("postconf", "-c", st.Info.PostfixConfig, "-e", "address_verify_poll_count=120").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("postfix", "-c", st.Info.PostfixConfig, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.portal.open(t, st)
	w.fill(t, domains, boxes)
	return w
}

// fill adds the domains and waits until policyd answers by them.
func (w *world) fill(t *testing.T, domains []*directory.Domain, boxes []string) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(w.stack.Info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, d := range domains {
		if _, err := s.AddDomain(t.Context(), *d); err != nil {
			t.Fatal(err)
		}
	}
	var add []store.NewMailbox
	for _, b := range boxes {
		add = append(add, store.NewMailbox{Address: b, Covered: true})
	}
	if err := s.AddMailboxes(t.Context(), add...); err != nil {
		t.Fatal(err)
	}
	last := boxes[len(boxes)-1]
	socket := "socketmap:unix:" + filepath.Join(w.stack.Dir(), "postfix", "queue", "sidecar", "socketmap") + ":probe"
	until(t, "policyd knows "+last, func() bool { // before Postfix asks for it, and keeps the answer for minutes
		out, err := exec.Command("postmap", "-c", w.stack.Info.PostfixConfig, "-q", last, socket).Output()
		return err == nil && strings.HasPrefix(string(out), "probe-auto:")
	})
	until(t, last+" is taken", func() bool {
		c, err := smtp.Dial(w.stack.Info.SMTP)
		if err != nil {
			return false
		}
		defer c.Close()
		err = c.Mail("", nil) // a healthy primary, or re-entry, vouches for it
		if err == nil {
			err = c.Rcpt(last, nil)
		}
		return err == nil
	})
}

// until is wait.True, but looks less often: a look at the queue or into all
// mailboxes is work.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := wait.For(context.Background(), patience, 50*time.Millisecond, func() error {
		if !done() {
			return errors.New("not so")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// send brings a message from the internet to the gateway. It returns what
// became of those who were not accepted, and when the message was.
func (w *world) send(from string, to []string, token string, octets int) (no map[string]outcome, at time.Time, err error) {
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}
	conn, err := d.Dial("tcp", w.stack.Info.SMTP)
	if err != nil {
		return nil, at, err
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.Mail(from, nil); err != nil {
		return nil, at, err
	}
	no = map[string]outcome{}
	for _, r := range to {
		var reply *smtp.SMTPError
		if err := c.Rcpt(r, nil); errors.As(err, &reply) && reply.Code >= 500 {
			no[r] = refused
		} else if err != nil {
			no[r] = putOff
		}
	}
	if len(no) == len(to) {
		return no, time.Now(), c.Quit()
	}
	data, err := c.Data()
	if err != nil {
		return nil, at, err
	}
	line := strings.Repeat("x", 76) + "\r\n"
	fmt.Fprintf(data, "Message-ID: <%s@internet.test>\r\nFrom: <%s>\r\nSubject: %s\r\n\r\n%s", token, from, token, strings.Repeat(line, octets/len(line))) //nolint:errcheck // Close tells
	if err := data.Close(); err != nil {
		return nil, at, err
	}
	at = time.Now()
	c.Quit() //nolint:errcheck // it is accepted
	return no, at, nil
}

// bounces are what the senders got back, by "sender recipient".
type bounces struct {
	mu   sync.Mutex
	read map[string]bool
	got  map[string]int
}

// count looks at what has come to the internet since.
func (b *bounces) count(dir, sender, recipient string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == nil {
		b.read, b.got = map[string]bool{}, map[string]int{}
	}
	files, _ := os.ReadDir(filepath.Join(dir, "new")) // not there: none
	for _, f := range files {
		if b.read[f.Name()] {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "new", f.Name()))
		if err != nil {
			continue
		}
		b.read[f.Name()] = true
		to := after(string(text), "\nDelivered-To: ")
		for part := range strings.SplitSeq(string(text), "\nFinal-Recipient: rfc822; ") {
			r, _, _ := strings.Cut(part, "\n")
			b.got[to+" "+strings.TrimSpace(r)]++
		}
	}
	return b.got[sender+" "+recipient]
}

func after(text, mark string) string {
	_, rest, _ := strings.Cut("\n"+text, mark)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
