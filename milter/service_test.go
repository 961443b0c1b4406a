package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/archive"
	"understudy/internal/wait"
)

// TestDirections sends several transactions on one connection, with resets and
// aborts between them: each is judged on its own, and the connection's facts
// survive. Mail that is nobody's passes untouched.
func TestDirections(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	c := p.connect(t)
	body := func(n string) []byte { return []byte("Subject: " + n + "\r\n\r\nx\r\n") }
	ok := func(reply string) {
		t.Helper()
		if !strings.HasPrefix(reply, "2") {
			t.Fatalf("reply %q\n%s", reply, s.log)
		}
	}
	ok(c.send("x@example.org", body("1"), "ana@example.test", "Sales+tag@example.test"))
	ok(c.send("x@example.org", body("not ours"), "y@example.net"))
	ok(c.envelope("x@example.org", "ana@example.test"))
	ok(c.command("RSET"))
	ok(c.send("x@example.org", body("2"), "plain@selected.test", "covered@selected.test"))
	// XCLIENT makes Postfix speak of another client, and of a login.
	if reply := c.command("XCLIENT ADDR=192.0.2.3 HELO=primary.example.test"); !strings.HasPrefix(reply, "220") {
		t.Fatal(reply)
	}
	ok(c.command("EHLO primary.example.test"))
	ok(c.send("ana@example.test", body("3"), "y@example.net"))
	ok(c.send("ana@example.test", body("4"), "bruno@example.test"))
	if reply := c.command("XCLIENT ADDR=198.51.100.7 LOGIN=bruno@example.test"); !strings.HasPrefix(reply, "220") {
		t.Fatal(reply)
	}
	ok(c.command("EHLO laptop"))
	ok(c.send("bruno@example.test", body("5"), "y@example.net"))
	ok(c.send("", body("6"), "y@example.net", "ana@example.test"))

	type seen struct {
		Direction              archive.Direction
		Sender                 string
		Recipients, Mailboxes  []string
		Client, Helo, SASLUser string
		HasQueueID             bool
		Route                  string
	}
	got := map[string]seen{}
	for _, a := range readArchive(t, s.archive) {
		_, subject, _ := strings.Cut(a.body, "Subject: ")
		got[subject[:1]] = seen{a.Direction, a.Sender, a.Recipients, a.Mailboxes, a.Client, a.Helo, a.SASLUser, len(a.QueueID) > 6, strings.Join(a.Route, " ")}
	}
	want := map[string]seen{
		"1": {archive.Inbound, "x@example.org", []string{"ana@example.test", "Sales+tag@example.test"}, []string{"ana@example.test"}, "127.0.0.1", "client.test", "", true, "primary"},
		"2": {archive.Inbound, "x@example.org", []string{"plain@selected.test", "covered@selected.test"}, []string{"covered@selected.test"}, "127.0.0.1", "client.test", "", true, "primary"},
		"3": {archive.Outbound, "ana@example.test", []string{"y@example.net"}, []string{"ana@example.test"}, "192.0.2.3", "primary.example.test", "", true, "internet"},
		"4": {archive.Internal, "ana@example.test", []string{"bruno@example.test"}, []string{"ana@example.test", "bruno@example.test"}, "192.0.2.3", "primary.example.test", "", true, "primary"},
		"5": {archive.Outbound, "bruno@example.test", []string{"y@example.net"}, []string{"bruno@example.test"}, "198.51.100.7", "laptop", "bruno@example.test", true, "internet"},
		"6": {archive.Outbound, "", []string{"y@example.net", "ana@example.test"}, []string{"bruno@example.test", "ana@example.test"}, "198.51.100.7", "laptop", "bruno@example.test", true, "primary internet"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wait.Until(t, "all are delivered", func() error {
		if n := len(p.sink.arrived()); n != 7 {
			return fmt.Errorf("%d of 7", n)
		}
		return nil
	})
	for _, m := range p.sink.arrived() {
		if marked := strings.Contains(m, idHeader); marked == strings.Contains(m, "Subject: not ours") {
			t.Errorf("header %s on %.300q: %v", idHeader, m, marked)
		}
	}
	text, err := s.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`understudy_milter_messages_total{direction="inbound",result="archived"} 2`, `understudy_milter_messages_total{direction="inbound",result="passed"} 1`,
		`understudy_milter_messages_total{direction="internal",result="archived"} 1`, `understudy_archive_records_total 6`, `understudy_archive_segments_open 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
}

// TestSendmail: mail submitted on the machine comes through cleanup alone,
// which completes its header.
func TestSendmail(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	cmd := exec.Command("sendmail", "-i", "-C", p.Dir, "-f", "x@example.org", "ana@example.test")
	cmd.Stdin = strings.NewReader("Subject : local\nTo: ana\nBcc: bruno\n\nx : y\n..\nz")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wait.Until(t, "the message is archived", func() error {
		if n := len(readArchive(t, s.archive)); n != 1 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	for _, a := range readArchive(t, s.archive) {
		if a.Sender != "x@example.org" || !slices.Equal(a.Recipients, []string{"ana@example.test"}) || a.Direction != archive.Inbound {
			t.Errorf("%+v", a.Envelope)
		}
		pattern := regexp.MustCompile(`^Subject: local\r\nTo: ana@mx.milter.test\r\nMessage-Id: <[^\r]*>\r\nDate: [^\r]*\r\nFrom: [^\r]*<x@example.org>\r\n\r\nx : y\r\n\.\.\r\nz\r\n$`)
		if !pattern.MatchString(a.body) {
			t.Errorf("archived as %q", a.body)
		}
	}
}

// TestManyRecipients: a thousand long addresses, which is what Postfix takes,
// are archived with the message; more than a record holds are refused for now,
// whole, and leave the connection usable.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	c := p.connect(t)
	send := func(n int, local string) string {
		c.command("MAIL FROM:<x@example.org>")
		for i := range n {
			if reply := c.command(fmt.Sprintf("RCPT TO:<%s%d@example.test>", local, i)); !strings.HasPrefix(reply, "250") {
				t.Fatal(reply)
			}
		}
		return c.data([]byte("Subject: many\r\n\r\nx\r\n"))
	}
	long := strings.Repeat("a", 58)
	if reply := send(1000, long); !strings.HasPrefix(reply, "250") {
		t.Error(reply)
	}
	if reply := send(6000, long); reply != tooMany.reply {
		t.Error(reply)
	}
	if reply := send(1, "b"); !strings.HasPrefix(reply, "250") {
		t.Error(reply)
	}
	var got []int
	for _, a := range readArchive(t, s.archive) {
		if len(a.Mailboxes) != len(a.Recipients) {
			t.Errorf("%d recipients, %d mailboxes", len(a.Recipients), len(a.Mailboxes))
		}
		got = append(got, len(a.Recipients))
	}
	if slices.Sort(got); !slices.Equal(got, []int{1, 1000}) {
		t.Errorf("archived with %v recipients", got)
	}
}

// TestFullDisk: a full archive is 451 and unhealthy, and mends without a
// restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	p := startPostfix(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small file system (the tests want root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // best effort
	s := newService(t, p.socket, dir)
	s.start(t)
	c := p.connect(t)
	accepted := 0
	try := func() string {
		reply := c.send("x@example.org", []byte("Subject: x\r\n\r\nx\r\n"), "ana@example.test")
		if strings.HasPrefix(reply, "250") {
			accepted++
		}
		return reply
	}
	try()
	ballast := filepath.Join(dir, "ballast")
	os.WriteFile(ballast, make([]byte, 2<<20), 0o600) //nolint:errcheck // must fail: it takes what is left
	reply := try()
	for n := 0; n < 100 && strings.HasPrefix(reply, "250"); n++ { // the segment's last page
		reply = try()
	}
	if reply != "451 4.3.0 Message could not be archived, try again later" {
		t.Errorf("full archive answers %q", reply)
	}
	if _, err := s.get("/healthz"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("health with a full archive: %v", err)
	}
	// A message that needs no archive is let through all the same.
	if reply := c.send("x@example.org", []byte("Subject: y\r\n\r\nx\r\n"), "y@example.net"); !strings.HasPrefix(reply, "250") {
		t.Errorf("uncovered mail: %q", reply)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if reply := try(); !strings.HasPrefix(reply, "250") {
		t.Errorf("after room was made: %q", reply)
	}
	if _, err := s.get("/healthz"); err != nil {
		t.Errorf("health after room was made: %v", err)
	}
	if got := readArchive(t, dir); len(got) != accepted {
		t.Errorf("accepted %d = archived %d does not hold", accepted, len(got))
	}
}

// TestNoDirectory: never loaded, because the file is missing or damaged and
// PostgreSQL is away: everything is refused for now.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	p := startPostfix(t)
	s := newService(t, p.socket, t.TempDir())
	saved := filepath.Join(s.dir, "directory.json")
	good, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(saved, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(program(t), "-config", s.config())
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "health tells of the directory", func() error {
		if _, err := s.get("/healthz"); err == nil || !strings.Contains(err.Error(), "directory was never loaded") {
			return fmt.Errorf("health: %w", err)
		}
		return nil
	})
	c := p.connect(t)
	reply := c.send("x@example.org", []byte("Subject: x\r\n\r\nx\r\n"), "ana@example.test")
	if reply != "451 4.3.0 Archive not ready, try again later" {
		t.Errorf("without directory: %q", reply)
	}
	s.stop(t, syscall.SIGTERM)
	if reply := c.send("x@example.org", []byte("Subject: x\r\n\r\nx\r\n"), "ana@example.test"); !strings.HasPrefix(reply, "451") {
		t.Errorf("without milter: %q", reply)
	}
}

// TestTooLarge: more than max_message_bytes is refused for now, and what was
// spooled is gone.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t, "max_message_bytes: 100000")
	c := p.connect(t)
	big := []byte("Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 50000))
	if reply := c.send("x@example.org", big, "ana@example.test"); reply != "452 4.3.4 Message too large for the archive" {
		t.Errorf("too large: %q", reply)
	}
	if reply := c.send("x@example.org", big[:50000], "ana@example.test"); !strings.HasPrefix(reply, "250") {
		t.Errorf("the next one: %q", reply)
	}
	if got := readArchive(t, s.archive); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
}
