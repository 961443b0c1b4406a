package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// layout is where everything of one stack is. It is kept in etc/layout.json,
// so that another process can stop and start components.
type layout struct {
	Dir        string         `json:"dir"`  // the real directory
	Link       string         `json:"link"` // the directory asked for: the same, or a symbolic link to it
	Repo       string         `json:"repo"`
	Bin        string         `json:"bin"`
	Ports      map[string]int `json:"ports"`
	Components []Component    `json:"components"`

	PostgresBin    string `json:"postgres_bin"`
	PostfixDaemons string `json:"postfix_daemons"`
	PostfixVersion string `json:"postfix_version"`
	DovecotVersion string `json:"dovecot_version"`
}

func (l *layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

func (l *layout) address(port string) string {
	return "127.0.0.1:" + strconv.Itoa(l.Ports[port])
}

func (l *layout) has(c Component) bool { return slices.Contains(l.Components, c) }

func (l *layout) save() error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("save layout: %w", err)
	}
	return writeFile(l.path("etc", "layout.json"), append(text, '\n'), 0o600)
}

// findServers asks the installed servers for their versions and places.
func (l *layout) findServers(ctx context.Context) error {
	postconf, err := output(ctx, "/usr/sbin/postconf", "-d", "-h", "mail_version", "daemon_directory")
	if err != nil {
		return fmt.Errorf("find Postfix (package postfix): %w", err)
	}
	fields := strings.Fields(postconf)
	if len(fields) != 2 {
		return fmt.Errorf("find Postfix: postconf said %q", postconf)
	}
	l.PostfixVersion, l.PostfixDaemons = fields[0], fields[1]
	dovecot, err := output(ctx, "/usr/sbin/dovecot", "--version")
	if err != nil {
		return fmt.Errorf("find Dovecot (package dovecot-core): %w", err)
	}
	if fields = strings.Fields(dovecot); len(fields) == 0 {
		return fmt.Errorf("find Dovecot: no version")
	}
	l.DovecotVersion = fields[0]
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return fmt.Errorf("find PostgreSQL (package postgresql): nothing in /usr/lib/postgresql")
	}
	slices.SortFunc(found, func(a, b string) int { return compareVersions(postgresVersion(a), postgresVersion(b)) })
	l.PostgresBin = filepath.Dir(found[len(found)-1])
	return nil
}

func postgresVersion(bin string) string { return filepath.Base(filepath.Dir(filepath.Dir(bin))) }

// atLeast says whether version is want or newer, number by number.
func atLeast(version, want string) bool { return compareVersions(version, want) >= 0 }

func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x - y
		}
	}
	return 0
}

// output runs a command and returns what it prints; its error holds what the
// command complained of.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w%s", filepath.Base(name), strings.Join(args, " "), err, indent(stderr.String()))
	}
	return stdout.String(), nil
}

// indent puts a program's own words below an error.
func indent(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	return "\n    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// writeFile writes with exactly this mode, whatever the umask.
func writeFile(path string, text []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, text, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// account is a system user's numeric identity.
type account struct{ uid, gid int }

func lookupAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("find system user %s: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, fmt.Errorf("find system user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("find system user %s: %w", name, err)
	}
	return account{uid, gid}, nil
}

// makeDir makes a directory with exactly this mode (setgid included) and owner.
func makeDir(path string, mode os.FileMode, owner account) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chown(path, owner.uid, owner.gid); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}
