package portal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"understudy/internal/portal"
	"understudy/internal/portal/portaltest"
)

const ana, bruno, carla = "ana@example.test", "bruno@example.test", "carla@example.test"

// fetch reads a whole message and its envelope.
func fetch(t *testing.T, s *portal.Session, uid uint32) (string, portal.Envelope, bool) {
	t.Helper()
	var text []byte
	var e portal.Envelope
	var stamped bool
	err := s.Fetch(t.Context(), uid, func(r *bufio.Reader) (err error) {
		var n int
		e, n = portal.Unstamp(r)
		stamped = n > 0
		text, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), e, stamped
}

func open(t *testing.T, c *portal.Client, mailbox string) (*portal.Session, portal.Listing) {
	t.Helper()
	l, err := c.List(t.Context(), mailbox)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(t.Context(), mailbox, l.UIDValidity)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, l
}

// TestUnstampRealLMTP delivers through Dovecot's LMTP and gets back exactly
// what was delivered, with its envelope.
func TestUnstampRealLMTP(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana, "a b@example.test")
	long := strings.Repeat("x", 60) + "@" + strings.Repeat(strings.Repeat("y", 60)+".", 3) + "test"
	tests := []struct{ sender, recipient, message string }{
		{"Sender+x@Internet.test", "Ana@Example.test", "X-Understudy-Id: 1\r\nSubject:  two  \r\n\tfolded\r\n\r\nbody\r\n"},
		{"", ana, "Return-Path: <fake@x>\r\nDelivered-To: fake@x\r\nSubject: own trace fields\r\n\r\nbody\r\n"},
		{"s@x.test", "ana+De.Tail@example.test", "Subject: 8 bit \xe9\r\n\r\n\xe9\xff\xfe \xc3\xa9\r\n.\r\n..dots\r\n\r\n\r\n"},
		{long, ana, "Subject: long sender\r\n\r\n" + strings.Repeat("z", 5000) + "\r\n"},
		{`"odd \"one\""@x.test`, ana, "Subject: quoted sender\r\n\r\n"},
		{"s@x.test", ana, "\r\nno header\r\n"},
		{"s@x.test", ana, "a\rb: not a header\r\n"},
		{"s@x.test", `"a b"@example.test`, "Subject: quoted recipient\r\n\r\n"},
	}
	client := portal.New(dovecot.Config)
	next := map[string]int{}
	for i, tt := range tests {
		dovecot.Deliver(tt.sender, tt.recipient, tt.message)
		mailbox := ana
		if strings.HasPrefix(tt.recipient, `"`) {
			mailbox = "a b@example.test"
		}
		s, l := open(t, client, mailbox)
		entry := l.Entries[next[mailbox]]
		next[mailbox]++
		text, e, stamped := fetch(t, s, entry.UID)
		if !stamped || text != tt.message {
			t.Errorf("%d: stamped %v, got %q, want %q", i, stamped, text, tt.message)
		}
		if e.Sender != tt.sender || e.Recipient != tt.recipient {
			t.Errorf("%d: envelope %+v, want %s %s", i, e, tt.sender, tt.recipient)
		}
		if len(entry.GUID) != 32 || entry.Deleted || entry.Size <= int64(len(tt.message)) {
			t.Errorf("%d: entry %+v", i, entry)
		}
	}
}

// TestOwnersMail: what the owner put into INBOX is not stamped; the fields of
// a message that was delivered and then copied are.
func TestOwnersMail(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana)
	user := dovecot.Login(ana)
	const sent = "From: ana@example.test\r\nSubject: draft\r\n\r\nbody \xe9\r\n"
	appendMessage(t, user, "INBOX", sent)
	s, l := open(t, portal.New(dovecot.Config), ana)
	if text, _, stamped := fetch(t, s, l.Entries[0].UID); stamped || text != sent {
		t.Errorf("stamped %v, %q", stamped, text)
	}
}

func TestCountsAndList(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana, bruno, carla)
	client := portal.New(dovecot.Config)
	for i := range 3 {
		dovecot.Deliver("s@x.test", ana, fmt.Sprintf("Subject: %d\r\n\r\n", i))
	}
	user := dovecot.Login(ana)
	flag(t, user, 2)
	counts, err := client.Counts(t.Context(), []string{"unknown@example.test", bruno, ana})
	if err != nil || len(counts) != 2 || counts[ana] != 3 || counts[bruno] != 0 {
		t.Errorf("counts %v, %v", counts, err)
	}
	l, err := client.List(t.Context(), ana)
	if err != nil || len(l.Entries) != 3 || l.Entries[0].UID != 1 || l.Entries[0].Deleted || !l.Entries[1].Deleted {
		t.Errorf("listing %+v, %v", l, err)
	}
	if l, err := client.List(t.Context(), "unknown@example.test"); err == nil {
		t.Errorf("a mailbox that does not exist has %+v", l)
	}
	for _, m := range []string{bruno, carla} {
		if _, err := os.Stat(dovecot.Home(m)); err == nil {
			t.Errorf("a home was made for %s, by asking", m)
		}
	}
	// The first message makes it: what was unused is not so for ever.
	dovecot.Deliver("s@x.test", bruno, "Subject: first\r\n\r\n")
	if counts, err := client.Counts(t.Context(), []string{bruno, carla}); err != nil || counts[bruno] != 1 {
		t.Errorf("after the first message: %v, %v", counts, err)
	}
	// A directory that cannot be looked into says nothing.
	home := dovecot.Home(carla)
	if err := errors.Join(os.MkdirAll(home+"/sdbox/mailboxes", 0o755), os.WriteFile(home+"/sdbox/mailboxes/INBOX", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if counts, err := client.Counts(t.Context(), []string{carla}); err != nil || len(counts) != 0 {
		t.Errorf("without a readable INBOX: %v, %v", counts, err)
	}
	many := make([]string, 0, 3*statusBatches)
	for range statusBatches {
		many = append(many, ana, bruno, "unknown@example.test")
	}
	if counts, err := client.Counts(t.Context(), many); err != nil || len(counts) != 2 {
		t.Errorf("many at once: %v, %v", counts, err)
	}
}

const statusBatches = 25 // times three mailboxes: more than one request

// TestGUIDSurvivesMove: the ledger's key.
func TestGUIDSurvivesMove(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana)
	client := portal.New(dovecot.Config)
	dovecot.Deliver("s@x.test", ana, "Subject: x\r\n\r\n")
	before, err := client.List(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	user := dovecot.Login(ana)
	move(t, user, "INBOX", "Sent")
	if l, err := client.List(t.Context(), ana); err != nil || len(l.Entries) != 0 {
		t.Fatalf("after the move: %+v, %v", l, err)
	}
	move(t, user, "Sent", "INBOX")
	after, err := client.List(t.Context(), ana)
	if err != nil || len(after.Entries) != 1 || after.Entries[0].GUID != before.Entries[0].GUID || after.Entries[0].UID == before.Entries[0].UID {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}

func TestRemoveOnlyThese(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana)
	client := portal.New(dovecot.Config)
	for range 4 {
		dovecot.Deliver("s@x.test", ana, "Subject: x\r\n\r\n")
	}
	flag(t, dovecot.Login(ana), 2) // the owner's own \Deleted
	s, _ := open(t, client, ana)
	if err := s.Remove(t.Context(), 1, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), 3); err != nil {
		t.Errorf("again: %v", err)
	}
	l, err := client.List(t.Context(), ana)
	if err != nil || len(l.Entries) != 2 || l.Entries[0].UID != 2 || !l.Entries[0].Deleted || l.Entries[1].UID != 4 {
		t.Errorf("left %+v, %v", l, err)
	}
	err = s.Fetch(t.Context(), 1, func(*bufio.Reader) error { t.Error("a removed message has content"); return nil })
	if !errors.Is(err, portal.ErrGone) {
		t.Errorf("fetch of a removed message: %v", err)
	}
	// The session goes on, flags are untouched.
	if _, _, stamped := fetch(t, s, 4); !stamped {
		t.Error("not stamped")
	}
}

func TestOpenTrouble(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana)
	client := portal.New(dovecot.Config)
	l, err := client.List(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Open(t.Context(), ana, l.UIDValidity+1); !errors.Is(err, portal.ErrRenumbered) {
		t.Errorf("another UIDVALIDITY: %v", err)
	}
	if _, err := client.Open(t.Context(), "unknown@example.test", 1); err == nil {
		t.Error("opened a mailbox that does not exist")
	}
	wrong := dovecot.Config
	wrong.APIKey, wrong.MasterPassword = "wrong", "wrong"
	if _, err := portal.New(wrong).Open(t.Context(), ana, l.UIDValidity); err == nil {
		t.Error("opened with a wrong password")
	}
	if _, err := portal.New(wrong).Counts(t.Context(), []string{ana}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong key: %v", err)
	}
	dovecot.Stop()
	if _, err := client.Counts(t.Context(), []string{ana}); err == nil {
		t.Error("no error although Dovecot is down")
	}
	if _, err := client.Open(t.Context(), ana, l.UIDValidity); err == nil {
		t.Error("no error although Dovecot is down")
	}
}

// TestHang: a server that says nothing costs no more than the deadline.
func TestHang(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts in its backlog, and never answers
	client := portal.New(portal.Config{DoveadmURL: "http://" + l.Addr().String(), IMAPAddress: l.Addr().String(), Timeout: 100 * time.Millisecond})
	began := time.Now()
	if _, err := client.List(t.Context(), ana); err == nil {
		t.Error("listed")
	}
	if _, err := client.Open(t.Context(), ana, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > time.Minute {
		t.Errorf("took %s", d)
	}
}

// TestBrokenFetch: a connection lost in the middle of a message is an error
// for whoever reads it, never an end.
func TestBrokenFetch(t *testing.T) {
	t.Parallel()
	dovecot := portaltest.Start(t, ana)
	dovecot.Deliver("s@x.test", ana, "Subject: x\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 200000))
	client := portal.New(dovecot.Config)
	s, l := open(t, client, ana)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readErr error
	err := s.Fetch(ctx, l.Entries[0].UID, func(r *bufio.Reader) error {
		cancel()
		_, readErr = io.Copy(io.Discard, r)
		return readErr
	})
	if readErr == nil || err == nil {
		t.Errorf("read %v, fetch %v", readErr, err)
	}
}

// TestFetchStreams: 50 MB pass in bounded memory.
func TestFetchStreams(t *testing.T) { // not parallel: it looks at the memory of the process
	dovecot := portaltest.Start(t, ana)
	const lines = 650_000 // of 80 bytes
	dovecot.Deliver("s@x.test", ana, "Subject: big\r\n\r\n"+strings.Repeat(strings.Repeat("x", 78)+"\r\n", lines))
	s, l := open(t, portal.New(dovecot.Config), ana)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var n int64
	err := s.Fetch(t.Context(), l.Entries[0].UID, func(r *bufio.Reader) (err error) {
		portal.Unstamp(r)
		n, err = io.Copy(io.Discard, struct{ io.Reader }{r})
		runtime.ReadMemStats(&during)
		return err
	})
	if err != nil || n != lines*80+16 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if grown := during.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated to read %d", grown, n)
	}
}

func flag(t *testing.T, c *imapclient.Client, uid imap.UID) {
	t.Helper()
	store := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := c.Store(imap.UIDSetNum(uid), store, nil).Close(); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, c *imapclient.Client, from, to string) {
	t.Helper()
	if _, err := c.Select(from, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	if _, err := c.Move(all, to).Wait(); err != nil {
		t.Fatal(err)
	}
}

func appendMessage(t *testing.T, c *imapclient.Client, mailbox, message string) {
	t.Helper()
	cmd := c.Append(mailbox, int64(len(message)), nil)
	_, err := io.WriteString(cmd, message)
	if err = errors.Join(err, cmd.Close()); err == nil {
		_, err = cmd.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
}
