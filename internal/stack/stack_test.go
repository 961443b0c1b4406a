package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// standIns is the smallest stack: quick to start, and real.
var standIns = []Component{Primary, Internet}

// bin has the binaries of all tests.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "understudy-bin-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		if err := Build(context.Background(), repoRoot, bin, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// processesBelow lists what runs with dir on its command line.
func processesBelow(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte(dir)) {
			found = append(found, string(bytes.ReplaceAll(text, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func leaders(t *testing.T, s *Stack) (all []leader) {
	t.Helper()
	for _, c := range s.layout.Components {
		l, ok, err := loadLeader(s.pidFile(c))
		if err != nil || !ok {
			t.Fatalf("pid file of %s: %v, %v", c, ok, err)
		}
		all = append(all, l)
	}
	return all
}

func TestUpTwiceThenDown(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{})
	before, err := os.ReadFile(s.layout.path("stack.json"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Up(t.Context(), Options{Dir: s.layout.Link, RepoRoot: repoRoot, Bin: bin})
	if !errors.Is(err, ErrAlreadyRunning) || again.Info.SMTP != s.Info.SMTP {
		t.Fatalf("second Up: %v", err)
	}
	after, err := os.ReadFile(s.layout.path("stack.json"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("stack.json changed: %v", err)
	}
	all := leaders(t, s)
	if err := s.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		if rest, err := l.family(); err != nil || len(rest) > 0 {
			t.Errorf("%s left processes: %v, %v", s.layout.Components[i], rest, err)
		}
	}
	if left := processesBelow(t, s.layout.Dir); len(left) > 0 {
		t.Errorf("left processes: %q", left)
	}
	for _, p := range []string{s.layout.Dir, s.layout.Link} {
		if _, err := os.Lstat(p); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", p, err)
		}
	}
	if err := s.Down(t.Context()); err != nil {
		t.Errorf("second Down: %v", err)
	}
}

func TestUpNamesWhatIsDead(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Only: standIns})
	if err := s.Kill9(t.Context(), Internet); err != nil {
		t.Fatal(err)
	}
	_, err := Up(t.Context(), Options{Dir: s.layout.Link, RepoRoot: repoRoot, Bin: bin})
	if err == nil || !strings.Contains(err.Error(), "[internet] does not run; mend it with: make down && make up") {
		t.Fatalf("Up on a damaged stack: %v", err)
	}
	if !s.Running(Primary) {
		t.Error("Up on a damaged stack stopped what ran")
	}
}

func TestUpRefusesAPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	dir := filepath.Join(t.TempDir(), "run")
	_, err = Up(t.Context(), Options{Dir: dir, RepoRoot: repoRoot, Bin: bin, Ports: map[string]int{"smtp": port}})
	if err == nil || !strings.Contains(err.Error(), "port "+strconv.Itoa(port)+" for smtp is in use") || !strings.Contains(err.Error(), "PORT_SMTP=") {
		t.Fatalf("Up: %v", err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

// A component that dies at its start is named with its last words, and those
// that ran already are stopped.
func TestUpUndoesAFailedStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	_, err := Up(t.Context(), Options{Dir: dir, RepoRoot: repoRoot, Bin: bin, Only: everythingButWorker,
		Variables: Variables{"dovecot_lmtp_process_limit": "many"}})
	if err == nil || !strings.Contains(err.Error(), "dovecot ended at its start") || !strings.Contains(err.Error(), "Invalid number many") {
		t.Fatalf("Up: %v", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left := processesBelow(t, real); len(left) > 0 {
		t.Errorf("left processes: %q", left)
	}
	entries, err := os.ReadDir(real)
	if err != nil || len(entries) != 2 || entries[1].Name() != "log" {
		t.Errorf("left behind: %v, %v; want only the logs", entries, err)
	}
	s := startStackIn(t, dir, Options{Only: standIns}) // the next start is not in the way of the failed one
	if !s.Running(Primary) {
		t.Error("does not run")
	}
}

func TestUpStopsWhenTold(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := net.Pipe()
	defer r.Close()
	go func() { // at the third step, cancel
		buf := make([]byte, 4096)
		for n := 0; ; n++ {
			if _, err := r.Read(buf); err != nil {
				return
			}
			if n == 2 {
				cancel()
			}
		}
	}()
	if _, err := Up(ctx, Options{Dir: dir, RepoRoot: repoRoot, Bin: bin, Only: everythingButWorker, Progress: w}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Up: %v", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left := processesBelow(t, real); len(left) > 0 {
		t.Errorf("left processes: %q", left)
	}
	if err := Down(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
}

func TestDirectoryWhereSocketsCannotLive(t *testing.T) {
	t.Parallel()
	short, err := os.MkdirTemp("/var/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	if err := os.Chmod(short, 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(short, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir   string
		moved bool
	}{
		"fits":            {filepath.Join(short, "run"), false},
		"too long":        {filepath.Join(short, strings.Repeat("x", 100)), true},
		"others kept out": {filepath.Join(closed, "run"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStackIn(t, c.dir, Options{Only: standIns})
			if moved := s.Dir() != c.dir; moved != c.moved {
				t.Errorf("lives in %s", s.Dir())
			}
			if _, err := ReadInfo(filepath.Join(c.dir, "stack.json")); err != nil {
				t.Error(err)
			}
			if err := s.Down(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{s.Dir(), c.dir} {
				if _, err := os.Lstat(p); !os.IsNotExist(err) {
					t.Errorf("%s is left: %v", p, err)
				}
			}
		})
	}
}

func TestDirectoryOfSomethingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Dir: dir, RepoRoot: repoRoot, Bin: bin}); err == nil || !strings.Contains(err.Error(), "not a scratch stack's directory") {
		t.Errorf("Up: %v", err)
	}
	if err := Down(t.Context(), dir, nil); err == nil {
		t.Error("Down accepted it")
	}
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

func TestOnlyOneAtWork(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	h, err := prepareDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.remove()
	defer h.unlock()
	if _, err := Up(t.Context(), Options{Dir: dir, RepoRoot: repoRoot, Bin: bin}); err == nil || !strings.Contains(err.Error(), "another make up or make down is at work") {
		t.Errorf("Up: %v", err)
	}
}

func TestComponentsOneByOne(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{})
	for _, c := range s.layout.Components {
		t.Run(string(c), func(t *testing.T) {
			l, ok, err := loadLeader(s.pidFile(c))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if err := s.Kill9(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if rest, err := l.family(); s.Running(c) || err != nil || len(rest) > 0 {
				t.Errorf("runs after Kill9: %v, %v", rest, err)
			}
			if err := s.Start(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if !s.Running(c) {
				t.Error("does not run")
			}
		})
	}
	if err := s.checkTogether(t.Context()); err != nil {
		t.Error(err)
	}
}

// Another process that has got the pid by now is never signalled.
func TestStopSparesForeignProcesses(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := findLeader(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stack{layout: layout{Dir: t.TempDir()}}
	if err := os.Mkdir(s.layout.path("pid"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, stale := range map[string]leader{
		"started later": {l.pid, l.start - 1, l.boot},
		"another boot":  {l.pid, l.start, "another"},
	} {
		if err := stale.save(s.pidFile(Milter)); err != nil {
			t.Fatal(err)
		}
		if s.Running(Milter) {
			t.Errorf("%s: taken for ours", name)
		}
		if err := errors.Join(s.Stop(t.Context(), Milter), stale.kill9()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !l.alive() {
			t.Fatalf("%s: the foreign process was ended", name)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // it was killed
}

func TestPolicyFileIsPutBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy-rc.d")
	for _, before := range []string{"", "#!/bin/sh\nexit 0\n"} {
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := forbidServiceStart(path); err != nil { // as if interrupted
			t.Fatal(err)
		}
		restore, err := forbidServiceStart(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := exec.CommandContext(t.Context(), path).Run(); err == nil || err.Error() != "exit status 101" {
			t.Errorf("the policy file says %v", err)
		}
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); before != string(got) {
			t.Errorf("put back %q, %v; was %q", got, err, before)
		}
	}
}

func TestMissingPackages(t *testing.T) {
	t.Parallel()
	missing, err := missingPackages(t.Context(), []string{"postfix", "understudy-no-such-package"})
	if err != nil || !slices.Equal(missing, []string{"understudy-no-such-package"}) {
		t.Errorf("missing %v, %v", missing, err)
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{{"3.10.13", "3.10", true}, {"3.7.11", "3.10", false}, {"2.4.1", "2.4", true}, {"2.3.19.1", "2.4", false}, {"15", "9", true}} {
		if got := atLeast(c.a, c.b); got != c.want {
			t.Errorf("atLeast(%s, %s) = %v", c.a, c.b, got)
		}
	}
}

func startStackIn(t *testing.T, dir string, o Options) *Stack {
	t.Helper()
	o.Dir, o.RepoRoot, o.Bin, o.Progress = dir, repoRoot, bin, t.Output()
	s, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, c := range []Component{Postfix, Dovecot, Primary, Internet} {
				t.Logf("%s:\n%s", c, s.logSince(c, 0))
			}
		}
		if err := s.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}
