package drain

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// TestReturn: what is left in INBOX is at the primary, once and unchanged,
// with its envelope; what its owner moved, deleted or flagged is not.
func TestReturn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO alias (domain_id, address, mailbox_id) SELECT domain_id, 'dora@example.test', id FROM mailbox WHERE address = $1`, bruno)
	for n := 1; n <= 5; n++ {
		w.portal.Deliver("Sender+x@Internet.test", "Ana+Tag@example.test", message(n))
	}
	user := w.portal.Login(ana)
	move(t, user, 1, "Sent")
	flagDeleted(t, user, 2) // 3 messages remain: UIDs 3 to 5
	flagDeleted(t, user, 3)
	if err := user.UIDExpunge(imap.UIDSetNum(2)).Close(); err != nil {
		t.Fatal(err)
	}
	w.portal.Deliver("", bruno, message(6))
	appendTo(t, w.portal.Login(bruno), message(7))
	if s := w.run(Complete); s != (Summary{Outcome: Complete, Returned: 4, Deleted: 1}) {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff([]int{4, 5}, w.numbers(ana, 2)); diff != "" {
		t.Errorf("ana: -want +got\n%s", diff)
	}
	for i, stored := range w.primary.Mail(ana) {
		for _, line := range []string{"Return-Path: <Sender+x@Internet.test>\n", "X-Original-To: Ana+Tag@example.test\n"} {
			if !strings.Contains(stored, line) {
				t.Errorf("ana %d: no %q in %q", i, line, stored)
			}
		}
		if strings.Contains(stored, "LMTP") || strings.Count(stored, "Return-Path:") != 1 {
			t.Errorf("ana %d: the portal's own trace fields are still there: %q", i, stored)
		}
	}
	if diff := cmp.Diff([]int{6, 7}, w.numbers(bruno, 2)); diff != "" {
		t.Errorf("bruno: -want +got\n%s", diff)
	}
	for i, stored := range w.primary.Mail(bruno) {
		if !strings.HasPrefix(stored, "Return-Path: <>\n") {
			t.Errorf("bruno %d: got %q", i, stored)
		}
	}
	if n := w.left(ana); n != 1 { // the flagged one
		t.Errorf("%d left in ana's INBOX", n)
	}
	if data, err := user.Select("Sent", nil).Wait(); err != nil || data.NumMessages != 1 {
		t.Errorf("the moved message: %+v, %v", data, err)
	}
	if n := w.left(bruno); n != 0 {
		t.Errorf("%d left in bruno's INBOX", n)
	}
	w.counts(store.LedgerCounts{Done: 4})
	if !strings.Contains(w.log.String(), "returned=4 held=0 deleted=1 left=0") {
		t.Errorf("no summary in the log: %s", w.log)
	}
	// Nothing happens twice.
	if s := w.run(Complete); s.Returned != 0 || len(w.primary.Mail(ana)) != 2 {
		t.Errorf("second pass: %+v", s)
	}
	// A copy put back has the GUID of what is done.
	w.portal.Deliver("s@x.test", carla, message(8))
	user = w.portal.Login(carla)
	if _, err := user.Copy(imap.UIDSetNum(1), "Sent").Wait(); err != nil {
		t.Fatal(err)
	}
	w.run(Complete)
	if _, err := user.Select("Sent", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	move(t, user, 1, "INBOX")
	if s := w.run(Complete); s.Returned != 0 || len(w.primary.Await(carla, 1)) != 1 || w.left(carla) != 1 {
		t.Errorf("a copy was sent again: %+v", s)
	}
}

// TestForgedStamp: fields like ours that the owner wrote do not send mail to
// others.
func TestForgedStamp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	forged := "Return-Path: <victim@x.test>\r\nDelivered-To: bruno@example.test\r\nReceived: from x\r\n\tby y with LMTP\r\n\tid z\r\n" +
		"\t(envelope-from <victim@x.test>)\r\n\tfor <bruno@example.test>; Mon, 23 Nov 2026 16:57:36 +0000\r\n"
	appendTo(t, w.portal.Login(ana), forged+message(1))
	w.run(Complete)
	if stored := w.primary.Await(ana, 1); !arrived(stored[0], message(1)) {
		t.Errorf("got %q", stored)
	}
	if mail := w.primary.Mail(bruno); len(mail) != 0 {
		t.Errorf("sent to another: %q", mail)
	}
}

func TestHeldAndRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.primary.Refuse(ana, "550 5.7.1 not this one")
	w.portal.Deliver("s@x.test", ana, message(1))
	w.portal.Deliver("s@x.test", ana, message(2))
	w.portal.Deliver("s@x.test", bruno, message(3))
	if s := w.run(Complete); s.Held != 2 || s.Returned != 1 || s.Left != 0 {
		t.Errorf("summary %+v", s)
	}
	held, err := w.store.HeldMessages(t.Context(), domain, 10)
	if err != nil || len(held) != 2 || !strings.HasPrefix(held[0].Reply, "550 5.7.1 <ana@example.test>: Recipient address rejected: not this one") {
		t.Errorf("held %+v, %v", held, err)
	}
	if s := w.run(Complete); s.Held != 2 || w.left(ana) != 2 || w.metric("understudy_worker_drain_messages_total", "held") != 2 {
		t.Errorf("held messages were tried again: %+v", s)
	}
	w.primary.Refuse(ana, "")
	if n, err := w.store.Retry(t.Context(), domain); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if s := w.run(Complete); s.Returned != 2 || s.Held != 0 {
		t.Errorf("after retry: %+v", s)
	}
	w.primary.Await(ana, 2)
	w.counts(store.LedgerCounts{Done: 3})
	if n := w.metric("understudy_worker_drain_uncertain_total", ""); n != 0 {
		t.Errorf("%v uncertain", n)
	}
}

// TestHeldThenDeleted: the ledger forgets what its owner has removed.
func TestHeldThenDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.primary.Refuse(ana, "550 5.7.1 no")
	w.portal.Deliver("s@x.test", ana, message(1))
	w.run(Complete)
	w.counts(store.LedgerCounts{Held: 1})
	user := w.portal.Login(ana)
	flagDeleted(t, user, 1)
	if err := user.UIDExpunge(imap.UIDSetNum(1)).Close(); err != nil {
		t.Fatal(err)
	}
	w.run(Complete)
	w.counts(store.LedgerCounts{})
}

// TestOneRecipientDeferred: 4xx for one mailbox keeps nobody else waiting.
func TestOneRecipientDeferred(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.primary.Refuse(bruno, "452 4.2.2 mailbox full")
	for n, m := range []string{ana, bruno, bruno, carla} {
		w.portal.Deliver("s@x.test", m, message(n))
	}
	listing, err := w.worker.Portal.List(t.Context(), bruno)
	if err != nil {
		t.Fatal(err)
	}
	if s := w.run(Trouble); s.Returned != 2 || s.Left != 2 || s.Held != 0 {
		t.Errorf("summary %+v", s)
	}
	w.counts(store.LedgerCounts{Done: 2, Sending: 1}) // the second was not tried
	w.primary.Refuse(bruno, "")
	if s := w.run(Complete); s.Returned != 2 {
		t.Errorf("summary %+v", s)
	}
	var inOrder bool
	err = w.store.Pool.QueryRow(t.Context(), `SELECT (SELECT first_at FROM drain_ledger WHERE guid = $1) < (SELECT first_at FROM drain_ledger WHERE guid = $2)`,
		listing.Entries[0].GUID, listing.Entries[1].GUID).Scan(&inOrder)
	if err != nil || !inOrder {
		t.Errorf("oldest first: %v, %v", inOrder, err)
	}
	w.exactlyOnce(4, map[string]int{ana: 1, bruno: 2, carla: 1})
	if n := w.metric("understudy_worker_drain_uncertain_total", ""); n != 0 {
		t.Errorf("%v uncertain", n)
	}
}

// TestPrimaryGoesDown in the middle: the rest stays, and goes out later.
func TestPrimaryGoesDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 8 {
		w.portal.Deliver("s@x.test", []string{ana, bruno}[n%2], message(n))
	}
	w.worker.Delivery = &after{Deliverer: w.worker.Delivery, n: 3, do: w.primary.Stop}
	first := w.run(Trouble)
	if left := w.left(ana) + w.left(bruno); first.Returned < 3 || first.Returned+left != 8 || left == 0 {
		t.Errorf("summary %+v, %d left", first, left)
	}
	if s := w.run(Trouble); s.Returned != 0 {
		t.Errorf("while it is down: %+v", s)
	}
	w.primary.Run()
	if s := w.run(Complete); s.Returned+first.Returned != 8 {
		t.Errorf("first %+v, then %+v", first, s)
	}
	w.exactlyOnce(8, map[string]int{ana: 4, bruno: 4})
}

// TestBackToEmergency in the middle: no further message is sent.
func TestBackToEmergency(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.worker.Concurrency = 1
	for n := range 6 {
		w.portal.Deliver("s@x.test", ana, message(n))
	}
	w.worker.Delivery = &after{Deliverer: w.worker.Delivery, n: 2, do: func() { w.setMode(directory.Emergency) }}
	if s := w.run(NotNormal); s.Returned != 2 || s.Left != 4 {
		t.Errorf("summary %+v", s)
	}
	if s := w.run(NotNormal); s.Returned != 0 || w.left(ana) != 4 {
		t.Errorf("in emergency: %+v", s)
	}
	// The switch back is in the database before the directory knows it: the run waits for it.
	if _, err := w.store.SwitchMode(t.Context(), store.Switch{Domain: domain, To: directory.Normal, Actor: "op", Manual: true}); err != nil {
		t.Fatal(err)
	}
	if s := w.run(Complete); s.Returned != 4 {
		t.Errorf("back to normal: %+v", s)
	}
	w.exactlyOnce(6, map[string]int{ana: 6})
}

func TestPortalDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.portal.Deliver("s@x.test", ana, message(1))
	w.portal.Stop()
	w.run(Trouble)
	w.portal.Run()
	w.run(Complete)
	w.exactlyOnce(1, map[string]int{ana: 1})
	w.exec(`DELETE FROM domain`)
	w.run(NotNormal)
}

// TestMailboxUnknownToPortal: one that cannot be opened is left out, the
// others are served.
func TestMailboxUnknownToPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'aaa@example.test' FROM domain`)
	w.portal.Deliver("s@x.test", ana, message(1))
	if s := w.run(Complete); s.Returned != 1 {
		t.Errorf("summary %+v", s)
	}
}

func TestOneDrainAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.portal.Deliver("s@x.test", ana, message(1))
	release, ok, err := openStore(t, w.url).LockDrain(t.Context(), "mx1", domain)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	w.run(Locked)
	release()
	w.run(Complete)
}

// TestLostReply: the primary took the message, its answer was lost.
func TestLostReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`UPDATE domain SET primaries = $1`, []string{lossy(t, w.primary.SMTP)})
	w.portal.Deliver("s@x.test", ana, message(1))
	if s := w.run(Trouble); s.Left != 1 {
		t.Errorf("summary %+v", s)
	}
	w.primary.Await(ana, 1)
	w.exec(`UPDATE domain SET primaries = $1`, []string{w.primary.SMTP})
	w.run(Complete)
	w.primary.Await(ana, 2) // this duplicate cannot be avoided, but it is counted
	if n := w.metric("understudy_worker_drain_uncertain_total", ""); n != 1 {
		t.Errorf("%v uncertain, want 1", n)
	}
	w.counts(store.LedgerCounts{Done: 1})
}

// TestSentIsOnlyRemoved, even when flagged \Deleted: as after a crash between
// the flag and the expunge.
func TestSentIsOnlyRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.portal.Deliver("s@x.test", ana, message(1))
	w.portal.Deliver("s@x.test", ana, message(2))
	l, err := w.worker.Portal.List(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	flagDeleted(t, w.portal.Login(ana), 1)
	w.exec(`INSERT INTO drain_ledger (gateway, mailbox, guid, domain, state, attempts) VALUES ('mx1', $1, $2, $4, 'sent', 1), ('mx1', $1, $3, $4, 'sending', 1)`,
		ana, l.Entries[0].GUID, l.Entries[1].GUID, domain)
	if s := w.run(Complete); s.Returned != 2 || w.left(ana) != 0 {
		t.Errorf("summary %+v", s)
	}
	if stored := w.primary.Await(ana, 1); len(stored) != 1 || !arrived(stored[0], message(2)) {
		t.Errorf("got %q", stored)
	}
	if n := w.metric("understudy_worker_drain_uncertain_total", ""); n != 1 {
		t.Errorf("%v uncertain, want the one in sending", n)
	}
	w.counts(store.LedgerCounts{Done: 2})
}

// TestLargeMessage: 50 MB in bounded memory. Not parallel: it looks at the
// memory of the process.
func TestLargeMessage(t *testing.T) {
	w := newWorld(t)
	big := message(1) + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 650_000)
	w.portal.Deliver("s@x.test", ana, big)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w.run(Complete)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated for a message of %d", grown, len(big))
	}
	if stored := w.primary.Await(ana, 1); !arrived(stored[0], big) {
		t.Errorf("got %d bytes, sent %d", len(stored[0]), len(big))
	}
}

// numbers waits for n messages, checks each against what was sent, and
// returns their numbers.
func (w *world) numbers(mailbox string, n int) []int {
	w.t.Helper()
	var out []int
	for _, stored := range w.primary.Await(mailbox, n) {
		i, err := strconv.Atoi(subject(stored))
		if err != nil || !arrived(stored, message(i)) {
			w.t.Errorf("%s got %q", mailbox, stored)
		}
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// exactlyOnce checks that messages 0 to n-1 (or the only one, whatever its
// number) are at the primary once each.
func (w *world) exactlyOnce(n int, per map[string]int) {
	w.t.Helper()
	total := map[string]int{}
	for mailbox, want := range per {
		w.primary.Await(mailbox, want)
		if left := w.left(mailbox); left != 0 {
			w.t.Errorf("%d left in %s", left, mailbox)
		}
		for _, stored := range w.primary.Mail(mailbox) {
			total[subject(stored)]++
		}
	}
	want := map[string]int{}
	for s := range total {
		want[s] = 1
	}
	if diff := cmp.Diff(want, total); diff != "" || len(total) != n {
		w.t.Errorf("%d messages, want %d: -want +got\n%s", len(total), n, diff)
	}
}

func subject(stored string) string {
	_, rest, _ := strings.Cut(stored, "Subject:  number  ")
	number, _, _ := strings.Cut(rest, " ")
	return number
}

// lossy is a way to an SMTP server on which the reply to the final dot, and
// the connection, are lost.
func lossy(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		server, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		defer server.Close()
		go io.Copy(server, conn) //nolint:errcheck // ends with the connection
		buf := make([]byte, 4096)
		for {
			n, err := server.Read(buf)
			if err != nil || strings.Contains(string(buf[:n]), "queued as") {
				return
			}
			conn.Write(buf[:n]) //nolint:errcheck // shows at the next read
		}
	}()
	return l.Addr().String()
}

func move(t *testing.T, c *imapclient.Client, uid imap.UID, to string) {
	t.Helper()
	if _, err := c.Move(imap.UIDSetNum(uid), to).Wait(); err != nil {
		t.Fatal(err)
	}
}

func flagDeleted(t *testing.T, c *imapclient.Client, uid imap.UID) {
	t.Helper()
	flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := c.Store(imap.UIDSetNum(uid), flags, nil).Close(); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, c *imapclient.Client, message string) {
	t.Helper()
	cmd := c.Append("INBOX", int64(len(message)), nil)
	_, err := fmt.Fprint(cmd, message)
	if err = errors.Join(err, cmd.Close()); err == nil {
		_, err = cmd.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
}
