package postfixtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/internal/wait"
)

// Main is what the main.cf of every instance begins with: a Postfix on
// loopback that has nothing to do with the machine's own.
//
//go:embed base.cf
var Main string

// Services are the lines of master.cf that an instance has beside its smtpds.
//
//go:embed services.cf
var Services string

// Instance is a Postfix with everything it needs in one directory: its
// configuration, queue/, data/ and the file log. Sockets of other servers are
// to be in queue/sidecar, whose new files get Postfix's group, as deployment
// has it.
type Instance struct{ Dir string }

// Prepare makes an instance in dir. @DIR@ stands for that in the text of
// main.cf and master.cf. Of settings that main.cf has twice the last counts.
// It wants root.
func Prepare(dir, mainText, masterText string) (*Instance, error) {
	u, err := user.Lookup("postfix")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid) // they are numbers on Linux
	gid, _ := strconv.Atoi(u.Gid)
	for _, d := range []struct {
		name     string
		mode     fs.FileMode
		uid, gid int
	}{{"", 0o755, 0, 0}, {"queue", 0o755, 0, 0}, {"data", 0o700, uid, gid}, {"queue/sidecar", 0o750 | fs.ModeSetgid, 0, gid}} {
		path := filepath.Join(dir, d.name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, d.uid, d.gid), os.Chmod(path, d.mode)); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"main.cf": lastOnly(mainText), "master.cf": masterText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "@DIR@", dir)), 0o644); err != nil {
			return nil, err
		}
	}
	return &Instance{Dir: dir}, nil
}

// lastOnly leaves out the settings of a main.cf that a later one of the same
// name overrides. Postfix would take it as it is, but each of its processes
// would say so when it starts: postlogd(8) to itself, for which it may wait
// for ever when the others have filled its socket.
func lastOnly(text string) string {
	var settings []string // each with the lines that continue it
	for line := range strings.Lines(text) {
		if (line[0] == ' ' || line[0] == '\t') && len(settings) > 0 {
			settings[len(settings)-1] += line
		} else {
			settings = append(settings, line)
		}
	}
	name := func(s string) string { n, _, _ := strings.Cut(s, "="); return strings.TrimSpace(n) }
	last := map[string]int{}
	for i, s := range settings {
		last[name(s)] = i
	}
	var out strings.Builder
	for i, s := range settings {
		if last[name(s)] == i {
			out.WriteString(s)
		}
	}
	return out.String()
}

// Sidecar is the path of a socket in queue/sidecar.
func (i *Instance) Sidecar(name string) string {
	return filepath.Join(i.Dir, "queue", "sidecar", name)
}

// Start starts the instance and waits until it listens on these addresses.
func (i *Instance) Start(ctx context.Context, addresses ...string) error {
	if err := i.Command(ctx, "postfix", "-c", i.Dir, "start"); err != nil {
		return err
	}
	err := wait.For(ctx, time.Minute, 10*time.Millisecond, func() error { return wait.Listen(addresses...) })
	if err != nil {
		return errors.Join(fmt.Errorf("start Postfix: %w\n%s", err, i.Log()), i.Stop())
	}
	return nil
}

// Stop stops the instance, letting what is under way end.
func (i *Instance) Stop() error {
	return i.Command(context.Background(), "postfix", "-c", i.Dir, "stop")
}

// Command runs a command of Postfix's, for a minute at most.
func (i *Instance) Command(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// A file, not a pipe: daemons that are left behind would hold a pipe open.
	out, err := os.CreateTemp(i.Dir, "command-*.out")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // it goes with the directory
	defer out.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s %s: %w: %s\n%s", name, strings.Join(args, " "), err, text, i.Log())
	}
	return nil
}

// Log is the end of the instance's log.
func (i *Instance) Log() string {
	text, _ := os.ReadFile(filepath.Join(i.Dir, "log"))
	return string(text[max(0, len(text)-8000):])
}

// New prepares an instance for a test, which removes it when it ends.
func New(tb testing.TB, mainText, masterText string) *Instance {
	tb.Helper()
	// Not tb.TempDir: its users cannot enter that, and its path is too long for sockets.
	dir, err := os.MkdirTemp("", "postfixtest-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	i, err := Prepare(dir, mainText, masterText)
	if err != nil {
		tb.Fatalf("%v (these tests start Postfix as root)", err)
	}
	return i
}

// StartFor starts the instance for a test, which stops it when it ends.
func (i *Instance) StartFor(tb testing.TB, addresses ...string) {
	tb.Helper()
	if err := i.Start(tb.Context(), addresses...); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := i.Stop(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Logf("Postfix's log ends:\n%s", i.Log())
		}
	})
}
