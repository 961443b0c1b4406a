//go:build deploy

package deploytest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// programDirectory is where the services are built, once.
var programDirectory string

var build = sync.OnceValue(func() error {
	for name := range services {
		cmd := exec.Command("go", "build", "-o", filepath.Join(programDirectory, "understudy-"+name), "./"+name)
		cmd.Dir = repoRoot
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
})

func TestMain(m *testing.M) {
	var err error
	if programDirectory, err = os.MkdirTemp("", "understudy-deploytest-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(programDirectory)
	os.Exit(code)
}

var recap = regexp.MustCompile(`(?m)^mx +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// playbook runs the playbook against the machine and returns what it printed,
// and how many tasks changed something.
func (m *machine) playbook(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	inventory := filepath.Join(filepath.Dir(m.root), "inventory.yml")
	text := fmt.Sprintf(`understudy:
  hosts:
    mx:
      ansible_connection: community.general.chroot
      ansible_host: %s
      ansible_chroot_exe: %s
      ansible_become: false
      ansible_python_interpreter: /usr/bin/python3
      understudy_binaries_directory: %s
      postfix_hostname: mx.example.net
`, m.root, m.wrapper, programDirectory)
	if err := os.WriteFile(inventory, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ansible-playbook", append([]string{"-i", inventory, "site.yml"}, args...)...)
	cmd.Dir = filepath.Join(repoRoot, "ansible")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCAL_TEMP="+t.TempDir())
	began := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("ansible-playbook %s: %.0f s", strings.Join(args, " "), time.Since(began).Seconds())
	found := recap.FindStringSubmatch(string(out))
	if err == nil && found == nil {
		err = fmt.Errorf("no recap for the machine")
	}
	if err != nil {
		return string(out), 0, err
	}
	changed, _ := strconv.Atoi(found[2])
	return string(out), changed, nil
}

// deploy runs the playbook, which must succeed.
func (m *machine) deploy(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, changed, err := m.playbook(t, args...)
	if err != nil {
		t.Fatalf("ansible-playbook %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out, changed
}
