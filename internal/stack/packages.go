package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Packages are the Debian packages that a stack's servers come from.
var Packages = []string{"postfix", "dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd",
	"dovecot-auth-lua", "lua-socket", "postgresql"}

// InstallPackages installs those of names (Packages, if none) that are
// missing. The servers among them are not started by their installation.
func InstallPackages(ctx context.Context, progress io.Writer, names ...string) error {
	if len(names) == 0 {
		names = Packages
	}
	missing, err := missingPackages(ctx, names)
	if err != nil || len(missing) == 0 {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages are missing (%s) and only root can install them", strings.Join(missing, " "))
	}
	fmt.Fprintf(progress, "installing %s\n", strings.Join(missing, " "))
	restore, err := forbidServiceStart(policyFile)
	if err != nil {
		return err
	}
	return errors.Join(install(ctx, missing), restore())
}

// missingPackages asks dpkg which of names are not installed.
func missingPackages(ctx context.Context, names []string) ([]string, error) {
	args := append([]string{"-W", "-f", "${db:Status-Status} ${Package}\n"}, names...)
	out, err := exec.CommandContext(ctx, "dpkg-query", args...).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) { // it exits 1 for a name it does not know
		return nil, fmt.Errorf("ask dpkg for installed packages: %w", err)
	}
	var missing []string
	for _, name := range names {
		if !strings.Contains("\n"+string(out), "\ninstalled "+name+"\n") {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// install runs apt-get, once more with fresh lists when these are old or absent.
func install(ctx context.Context, names []string) error {
	args := append([]string{"install", "-y", "--no-install-recommends"}, names...)
	if aptGet(ctx, args...) == nil {
		return nil
	}
	if err := aptGet(ctx, "update"); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(names, " "), err)
	}
	if err := aptGet(ctx, args...); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(names, " "), err)
	}
	return nil
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w%s", args[0], err, indent(strings.Join(lines[max(0, len(lines)-10):], "\n")))
	}
	return nil
}

// policyFile is asked by Debian's invoke-rc.d before it starts a service; 101
// forbids it.
const (
	policyFile   = "/usr/sbin/policy-rc.d"
	startNothing = "#!/bin/sh\n# Of Understudy's package installation; it is removed when that has ended.\nexit 101\n"
)

// forbidServiceStart puts a refusal at path and returns what puts back what
// was there. What an interrupted run left aside is put back by the next.
func forbidServiceStart(path string) (restore func() error, err error) {
	aside := path + ".before-understudy"
	before, err := os.ReadFile(path)
	if err == nil && string(before) != startNothing {
		err = os.Rename(path, aside)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	if err := writeFile(path, []byte(startNothing), 0o755); err != nil {
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	return func() error {
		err := os.Rename(aside, path)
		if errors.Is(err, os.ErrNotExist) {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("restore %s: %w", path, err)
		}
		return nil
	}, nil
}
