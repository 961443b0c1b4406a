// Package story plays the outage for which Understudy exists, on a running
// scratch stack, with outside clients only (SMTP, IMAP, POP3, HTTP and the
// command line). It knows nothing but stack.json.
//
// `make demo` plays it for people; the integration tests play it on a stack
// of their own.
package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"understudy/internal/stack"
)

// patience is how long the story waits for what must come by itself.
const patience = 3 * time.Minute

// Story is one playing of the outage.
type Story struct {
	info stack.Info
	dir  string // of stack.json
	out  io.Writer
	step int
	left []letter // what must reach the primary after the outage
}

// New reads stack.json; what happens is told on out.
func New(stackFile string, out io.Writer) (*Story, error) {
	info, err := stack.ReadInfo(stackFile)
	if err != nil {
		return nil, fmt.Errorf("is the stack up? %w", err)
	}
	return &Story{info: info, dir: filepath.Dir(stackFile), out: out}, nil
}

// Play plays all acts and stops at the first thing that is not as it must be.
func (s *Story) Play(ctx context.Context) error {
	acts := []struct {
		name string
		play func(context.Context) error
	}{
		{"Normal: the primary has the mail", s.normal},
		{"The primary fails", s.outage},
		{"PostgreSQL fails too", s.database},
		{"The primary is back", s.back},
		{"A person switches, with mail already deferred", s.byHand},
	}
	start := time.Now()
	for _, act := range acts {
		fmt.Fprintf(s.out, "\n== %s\n", act.name)
		if err := act.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
	}
	fmt.Fprintf(s.out, "\nThe story ended well: %d checks in %.0f s.\n", s.step, time.Since(start).Seconds())
	return nil
}

// tell prints what was just shown to be so.
func (s *Story) tell(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "  ✓ %s\n", fmt.Sprintf(format, args...))
}

// within repeats check until it returns nil.
func within(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		case <-tick.C:
		}
	}
}

// user returns a mailbox of the stack by its place in the list.
func (s *Story) user(i int) stack.Mailbox { return s.info.Mailboxes[i] }

// cli runs the operator's command line tool and returns its output.
func (s *Story) cli(ctx context.Context, args ...string) ([]byte, error) {
	words := append(strings.Fields(s.info.CLI), args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return out, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
		}
		return out, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// shell runs a command of stack.json.
func shell(ctx context.Context, command string) error {
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return nil
}

// component starts or stops a part of the scratch stack.
func (s *Story) component(ctx context.Context, verb, name string) error {
	return shell(ctx, fmt.Sprintf("%s/understudy-stack -dir %s %s %s", s.info.Bin, s.dir, verb, name))
}

// waitMode waits until the domain is in a mode.
func (s *Story) waitMode(ctx context.Context, mode string) error {
	return within(ctx, patience, "mode "+mode, func() error {
		out, err := s.cli(ctx, "mode", s.info.Domain, "--json")
		if err != nil {
			return err
		}
		var d struct {
			Mode string `json:"mode"`
		}
		if err := json.Unmarshal(out, &d); err != nil {
			return err
		}
		if d.Mode != mode {
			return fmt.Errorf("the mode is %q", d.Mode)
		}
		return nil
	})
}

// primaryMaildir is the maildir of an address at the primary.
func (s *Story) primaryMaildir(address string) string {
	local, _, _ := strings.Cut(address, "@")
	return strings.ReplaceAll(s.info.Primary.Maildir, "{user}", local)
}

// atPrimary waits for a letter in the primary's maildir: once, and byte for
// byte below the trace fields.
func (s *Story) atPrimary(ctx context.Context, l letter) error {
	return within(ctx, patience, "at the primary", func() error { return s.once(s.primaryMaildir(l.to), l) })
}

func (s *Story) once(dir string, l letter) error {
	found, err := maildir(dir, l.token)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%d copies in %s, want 1", len(found), dir)
	}
	return l.same(found[0])
}

// inPortal waits for a letter in a user's portal INBOX, by IMAP.
func (s *Story) inPortal(ctx context.Context, u stack.Mailbox, l letter) error {
	return within(ctx, patience, "in the portal", func() error {
		m, err := openMailbox(s.info.IMAP, u.Address, u.Password)
		if err != nil {
			return err
		}
		defer m.close()
		_, text, err := m.find(l.token)
		if err != nil {
			return err
		}
		return l.same(text)
	})
}

// archived waits until a search of the archive finds the letter, in the right
// direction, and its source is what was sent.
func (s *Story) archived(ctx context.Context, l letter, direction string) error {
	return within(ctx, patience, "in the archive's index", func() error {
		out, err := s.cli(ctx, "archive", "search", "--json", `subject:"`+l.token+`"`)
		if err != nil {
			return err
		}
		var found []struct {
			ID        string `json:"id"`
			Direction string `json:"direction"`
		}
		if err := json.Unmarshal(out, &found); err != nil {
			return fmt.Errorf("%w: %.200s", err, out)
		}
		if len(found) != 1 || found[0].Direction != direction {
			return fmt.Errorf("found %+v, want one %s message", found, direction)
		}
		source, err := s.cli(ctx, "archive", "show", found[0].ID)
		if err != nil {
			return err
		}
		return l.same(source)
	})
}
