package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/directory/directorytest"
	"understudy/internal/freeport"
	"understudy/internal/logtest"
	"understudy/internal/wait"
)

var (
	binDir    string
	buildOnce sync.Once
	buildErr  error
)

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("/tmp", "umbin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

// program builds the real program once.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(binDir, "understudy-milter")
	buildOnce.Do(func() {
		out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return path
}

// testDirectory is what the tests' domains look like: example.test is covered
// as a whole, selected.test in one mailbox.
func testDirectory() *directory.Directory {
	d := directory.New()
	d.Apply(testChange())
	return d
}

func testChange() *directory.Change {
	return &directory.Change{Full: true, Epoch: "test", Version: 1,
		Domains: []*directory.Domain{
			{ID: 1, Name: "example.test", Scope: directory.ScopeAll, Mode: directory.Normal,
				OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8::1/128")}},
			{ID: 2, Name: "selected.test", Scope: directory.ScopeSelected, Mode: directory.Normal,
				OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.20/32")}},
		},
		Mailboxes: []*directory.Mailbox{
			{ID: 1, DomainID: 1, Address: "ana@example.test", Enabled: true},
			{ID: 2, DomainID: 1, Address: "bruno@example.test", Enabled: true},
			{ID: 3, DomainID: 2, Address: "covered@selected.test", Covered: true, Enabled: true},
			{ID: 4, DomainID: 2, Address: "plain@selected.test", Enabled: true},
		},
		Aliases: []*directory.Alias{{ID: 1, DomainID: 1, Address: "sales@example.test", MailboxID: 1}},
		Outbound: []*directory.OutboundAccount{{ID: 1, Name: "relay-1", DomainIDs: []int64{1}, Enabled: true},
			{ID: 2, Name: "relay-off", DomainIDs: []int64{1}}},
	}
}

// service is a running understudy-milter, the real program.
type service struct {
	dir     string // its state, archive and configuration
	archive string
	metrics string // host:port
	socket  string
	cmd     *exec.Cmd
	log     *logtest.Buffer
}

// newService prepares a service whose socket is at socket; start starts it.
// Its database is a closed port: nothing here needs PostgreSQL.
func newService(t *testing.T, socket, archiveDir string, extra ...string) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), archive: archiveDir, socket: socket, metrics: freeport.For(t), log: &logtest.Buffer{}}
	directorytest.Save(t, filepath.Join(s.dir, "directory.json"), testChange())
	yaml := fmt.Sprintf("database: {url: 'postgres://understudy@%s/understudy'}\nstate_directory: %s\nmetrics_listen: %s\nlisten: unix:%s\narchive_directory: %s\n%s\n",
		freeport.For(t), s.dir, s.metrics, socket, archiveDir, strings.Join(extra, "\n"))
	if err := os.WriteFile(s.config(), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t, syscall.SIGKILL) })
	return s
}

func (s *service) config() string { return filepath.Join(s.dir, "milter.yml") }

// start starts the program and waits until it is healthy.
func (s *service) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(program(t), "-config", s.config())
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the milter is healthy", func() error {
		_, err := s.get("/healthz")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.log)
		}
		return nil
	})
}

// stop ends the program and waits for its end.
func (s *service) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended
	defer time.AfterFunc(3*time.Minute, func() { s.cmd.Process.Kill() }).Stop()
	err := s.cmd.Wait()
	if sig != syscall.SIGKILL && err != nil {
		t.Errorf("milter ended with %v\n%s", err, s.log)
	}
	s.cmd = nil
}

// get asks the metrics listener.
func (s *service) get(path string) (string, error) {
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get("http://" + s.metrics + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// peakRSS is the most memory the program ever held, in bytes.
func (s *service) peakRSS(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

type archived struct {
	archive.Envelope
	body string
}

// readArchive reads all records.
func readArchive(t *testing.T, dir string, keys ...age.Identity) map[string]archived {
	t.Helper()
	segments, err := archive.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]archived{}
	for _, seg := range segments {
		if seg.Size == 0 { // it is being begun, or nothing is committed yet
			continue
		}
		r, err := archive.OpenSegment(dir, seg.Name, keys...)
		if err != nil {
			t.Fatal(err)
		}
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			out[rec.ID.String()] = archived{rec.Envelope, string(body)}
		}
		if r.Damaged() != 0 {
			t.Errorf("%s: %d bytes damaged", seg.Name, r.Damaged())
		}
		r.Close()
	}
	return out
}
