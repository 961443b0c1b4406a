package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/listen"
)

// mta is a milter client as Postfix is one, as far as these tests go. (The
// client of go-milter refuses go-milter's own server: that answers version 2
// with the options of version 6, which Postfix takes.)
type mta struct{ net.Conn }

// packet sends a command.
func (m mta) packet(code milter.Code, data string) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))
	_, err := m.Write(append(append(b, byte(code)), data...))
	return err
}

// answer reads a reply.
func (m mta) answer() (milter.ActionCode, string, error) {
	var n uint32
	if err := binary.Read(m, binary.BigEndian, &n); err != nil {
		return 0, "", err
	}
	if n == 0 || n > 1<<16 {
		return 0, "", fmt.Errorf("packet of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m, b); err != nil {
		return 0, "", err
	}
	return milter.ActionCode(b[0]), string(b[1:]), nil
}

// ask sends a command and reads its reply.
func (m mta) ask(code milter.Code, data string) (milter.ActionCode, string, error) {
	if err := m.packet(code, data); err != nil {
		return 0, "", err
	}
	return m.answer()
}

// serveTest runs a server in this process. connect opens a milter connection
// as far as HELO, end stops the server and waits.
func serveTest(t *testing.T, dir *directory.Directory) (s *server, connect func() mta, end func()) {
	t.Helper()
	w, err := archive.OpenWriter(t.TempDir(), archive.Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s = &server{dir: dir, archive: w, metrics: newMetrics(prometheus.NewRegistry()), log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		spoolDir: t.TempDir(), maxBytes: 1 << 20}
	path := filepath.Join(t.TempDir(), "s")
	l, err := listen.Open("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.serve(ctx, l, 10); err != nil {
			t.Error(err)
		}
	}()
	end = func() {
		cancel()
		<-done
		w.Close()
	}
	t.Cleanup(end)
	connect = func() mta {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		m := mta{c}
		if code, _, err := m.ask(milter.CodeOptNeg, "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"); err != nil || code != 'O' {
			t.Fatalf("negotiation: %c, %v", code, err)
		}
		m.must(t, milter.CodeConn, "client.test\x004\x00\x19192.0.2.99\x00")
		m.must(t, milter.CodeHelo, "client.test\x00")
		return m
	}
	return s, connect, end
}

// must sends a command that has no reply.
func (m mta) must(t *testing.T, code milter.Code, data string) {
	t.Helper()
	if err := m.packet(code, data); err != nil {
		t.Fatal(err)
	}
}

// toContent drives a connection to the middle of a message's body: more of it
// than fits between two sockets, so that the server has begun to take it.
func (m mta) toContent(t *testing.T) {
	t.Helper()
	m.must(t, milter.CodeMail, "<x@example.org>\x00")
	m.must(t, milter.CodeRcpt, "<ana@example.test>\x00")
	m.must(t, milter.CodeHeader, "Subject\x00 x\x00")
	m.must(t, milter.CodeEOH, "")
	for range 12 {
		m.must(t, milter.CodeBody, strings.Repeat("x\r\n", 20_000))
	}
}

// ends checks that the message at its end is archived and accepted.
func (m mta) ends(t *testing.T) {
	t.Helper()
	act, data, err := m.ask(milter.CodeEOB, "")
	if err != nil || act != milter.ActionCode(milter.ActInsertHeader) || !strings.HasPrefix(data, "\x00\x00\x00\x00"+idHeader+"\x00 ") {
		t.Fatalf("end of message: %c %q, %v", act, data, err)
	}
	if act, _, err := m.answer(); err != nil || act != milter.ActAccept {
		t.Fatalf("end of message: %c, %v", act, err)
	}
}

// TestStopLetsMessagesEnd: a message whose content came in part is finished,
// a connection that only waits is cut off.
func TestStopLetsMessagesEnd(t *testing.T) {
	t.Parallel()
	s, connect, end := serveTest(t, testDirectory())
	waiting, busy := connect(), connect()
	busy.toContent(t)
	ended := make(chan struct{})
	go func() { defer close(ended); end() }()
	if act, _, err := waiting.answer(); err == nil {
		t.Errorf("a waiting connection goes on after the stop: %c", act)
	}
	busy.ends(t)
	<-ended
	if n := testutil.ToFloat64(s.metrics.messages.WithLabelValues("inbound", "archived")); n != 1 {
		t.Errorf("%v messages archived", n)
	}
	if n := testutil.ToFloat64(s.metrics.sessions); n != 0 {
		t.Errorf("%v sessions open after the end", n)
	}
}

// TestPanicEndsOneConnection: the others live on.
func TestPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	s, connect, _ := serveTest(t, testDirectory())
	other := connect()
	other.toContent(t)
	faulty := &session{server: &server{metrics: s.metrics, log: s.log}, conn: &deadlineConn{}} // no directory: a fault of the program
	if resp, err := faulty.MailFrom("x@example.org", &milter.Modifier{}); !errors.Is(err, errPanic) || resp != nil {
		t.Errorf("after a panic: %v, %v", resp, err)
	}
	if n := testutil.ToFloat64(s.metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
	other.ends(t)
}

// TestOddSessions: what Postfix never does must not be accepted either.
func TestOddSessions(t *testing.T) {
	t.Parallel()
	_, connect, _ := serveTest(t, testDirectory())
	m := connect()
	refused := func(what string) {
		t.Helper()
		if act, text, err := m.ask(milter.CodeEOB, ""); err != nil || act != milter.ActReplyCode || !strings.HasPrefix(text, "451 ") {
			t.Errorf("%s: %c %q, %v", what, act, text, err)
		}
	}
	refused("the end of no message")
	m.toContent(t)
	m.must(t, milter.CodeAbort, "")
	refused("the end of an aborted message")
	m.toContent(t)
	m.ends(t)
	m.must(t, milter.CodeAbort, "")
	m.toContent(t)
	m.ends(t)
}

// TestNoSpool: a disk without room for what comes in is 451 and unhealthy, as
// one without room for the archive is. A message that is too large is neither.
func TestNoSpool(t *testing.T) {
	t.Parallel()
	for want, spoolDir := range map[string]string{"451 4.3.0": filepath.Join(t.TempDir(), "gone"), "452 4.3.4": t.TempDir()} {
		srv := &server{dir: testDirectory(), spoolDir: spoolDir, maxBytes: 9 << 20, serving: true,
			metrics: newMetrics(prometheus.NewRegistry()), log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		s, m := &session{server: srv, conn: &deadlineConn{Conn: noConn{}}}, &milter.Modifier{}
		_, errFrom := s.MailFrom("x@example.org", m)
		_, errTo := s.RcptTo("ana@example.test", m)
		_, errHeaders := s.Headers(nil, m)
		if err := errors.Join(errFrom, errTo, errHeaders); err != nil {
			t.Fatal(err)
		}
		for range 160 { // 10 MiB: more than stays in memory
			if _, err := s.BodyChunk(make([]byte, 64<<10), m); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := s.Body(m)
		if err != nil || !strings.Contains(string(resp.Response().Data), want) {
			t.Errorf("%v, %v, want %s", resp, err, want)
		}
		if err := srv.health(); (err == nil) != (want == "452 4.3.4") {
			t.Errorf("after %s: health %v", want, err)
		}
	}
}

// TestHeadersAreNotKept: go-milter's own copy of the header stays empty.
func TestHeadersAreNotKept(t *testing.T) {
	t.Parallel()
	s := &session{server: &server{dir: testDirectory(), spoolDir: t.TempDir(), maxBytes: 1 << 20}, conn: &deadlineConn{Conn: noConn{}}}
	m := &milter.Modifier{Headers: textproto.MIMEHeader{"Subject": {strings.Repeat("x", 100)}}}
	if _, err := s.Header("Subject", "x", m); err != nil || len(m.Headers) != 0 {
		t.Errorf("%v, %v", m.Headers, err)
	}
}

type noConn struct{ net.Conn }
