//go:build deploy

package deploytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

const repoRoot = "../.."

// system is one kind of Debian system.
type system struct {
	release string // bookworm, trixie
	systemd bool
}

// always are the packages that a bare system has; Ansible needs python3-apt.
func (s system) always() []string {
	names := []string{"python3", "python3-apt", "ca-certificates", "procps", "iproute2", "netbase", "zstd"}
	if s.systemd {
		names = append(names, "systemd-sysv", "dbus")
	}
	return names
}

// extract unpacks the system into dir, making it first if need be.
func (s system) extract(t *testing.T, dir string) {
	t.Helper()
	archive, err := s.archive(t)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "--extract", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--file", archive, "--directory", dir)
	// The package lists count as fresh, or apt would want the network.
	now := time.Now()
	for _, p := range []string{"/var/lib/apt/lists", "/var/lib/apt/periodic/update-success-stamp"} {
		if err := os.Chtimes(dir+p, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// archive returns the path of the system's tar archive in the cache.
func (s system) archive(t *testing.T) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "understudy-deploytest")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	later, err := rolePackages()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Append(nil, s, s.always(), later, "1"))
	path := filepath.Join(cache, fmt.Sprintf("%s-%x.tar.zst", s.release, key[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	began := time.Now()
	if err := s.build(t, path, later); err != nil {
		return "", fmt.Errorf("make Debian %s: %w", s.release, err)
	}
	t.Logf("made %s in %.0f s", path, time.Since(began).Seconds())
	return path, nil
}

func (s system) build(t *testing.T, path string, later []string) error {
	root := t.TempDir()
	site, security, err := mirrors()
	if err != nil {
		return err
	}
	if err := command("debootstrap", "--variant=minbase", "--include="+strings.Join(s.always(), ","), s.release, root, site); err != nil {
		return err
	}
	sources := fmt.Sprintf("deb %s %s main\ndeb %s %s-updates main\ndeb %s %s-security main\n", site, s.release, site, s.release, security, s.release)
	script := fmt.Sprintf(`
		mount -t proc proc %[1]s/proc
		cp /etc/resolv.conf %[1]s/etc/resolv.conf
		chroot %[1]s sh -ec 'apt-get -q update; apt-get -q -y dist-upgrade; apt-get clean
			apt-get -q -y --no-install-recommends --download-only install %[2]s'
		rm -f %[1]s/etc/resolv.conf %[1]s/etc/hostname
		: > %[1]s/etc/machine-id`, root, strings.Join(later, " "))
	for name, text := range map[string]string{"etc/apt/sources.list": sources, "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := command("unshare", "--mount", "--pid", "--fork", "--kill-child", "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", script); err != nil {
		return err
	}
	if err := command("tar", "--create", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--one-file-system",
		"--file", path+".new", "--directory", root, "."); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// mirrors are those that this machine's own apt uses.
func mirrors() (site, security string, err error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" || !strings.Contains(f[0], "debian") {
			continue
		}
		if name, ok := strings.CutSuffix(f[1], "-security"); ok && name != "" {
			security = f[0]
		} else if !strings.Contains(f[1], "-") {
			site = f[0]
		}
	}
	if site == "" || security == "" {
		return "", "", errors.New("apt has no mirror of Debian, or none of its security updates")
	}
	return site, security, nil
}

// rolePackages are the packages that the playbook installs.
func rolePackages() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(repoRoot, "ansible/roles/*/tasks/install.yml"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var tasks []struct {
			Apt struct {
				Name any `yaml:"name"`
			} `yaml:"ansible.builtin.apt"`
		}
		if err := yaml.Unmarshal(text, &tasks); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		for _, task := range tasks {
			switch names := task.Apt.Name.(type) {
			case string:
				all = append(all, names)
			case []any:
				for _, n := range names {
					all = append(all, fmt.Sprint(n))
				}
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no packages found in the roles' tasks/install.yml")
	}
	return all, nil
}

// command runs a program of this machine; the error has the end of its output.
func command(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-3000):])
	}
	return nil
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if err := command(name, args...); err != nil {
		t.Fatal(err)
	}
}
