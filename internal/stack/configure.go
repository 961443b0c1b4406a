package stack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"strings"
)

// mailOwner owns all stored mail; no such user needs to exist.
var mailOwner = account{21000, 21000}

// roles of the database; each has its password in etc/secrets.
var databaseRoles = []string{"understudy", "understudy_app", "understudy_mail", "understudy_auth"}

// secretPath is where a secret lies.
func (l *layout) secretPath(name string) string { return l.path("etc", "secrets", name) }

func (l *layout) secret(name string) (string, error) {
	text, err := os.ReadFile(l.secretPath(name))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// configure writes every file of the stack.
func (s *Stack) configure(ctx context.Context, overrides Variables) error {
	if err := s.makeDirectories(); err != nil {
		return err
	}
	if err := s.makeSecrets(); err != nil {
		return err
	}
	if err := writeCertificate(s.layout.path("etc", "tls")); err != nil {
		return err
	}
	roles, err := OpenRoles(s.layout.Repo)
	if err != nil {
		return err
	}
	vars, err := s.variables()
	if err != nil {
		return err
	}
	maps.Copy(vars, overrides)
	for _, f := range s.files() {
		text, err := roles.Render(f.role, f.template, vars)
		if err != nil {
			return err
		}
		if err := writeFile(f.path, text, f.mode); err != nil {
			return err
		}
		if err := os.Chown(f.path, 0, f.group); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
	}
	if err := s.writeStandIns(); err != nil {
		return err
	}
	if err := s.preparePostfix(ctx); err != nil {
		return err
	}
	if err := s.initDatabase(ctx); err != nil {
		return err
	}
	return s.layout.save()
}

// makeDirectories makes what no server makes for itself, with its owner.
func (s *Stack) makeDirectories() error {
	postfix, err := lookupAccount("postfix")
	if err != nil {
		return err
	}
	dovecot, err := lookupAccount("dovecot")
	if err != nil {
		return err
	}
	postgres, err := lookupAccount("postgres")
	if err != nil {
		return err
	}
	root := account{}
	for _, d := range []struct {
		path  string
		mode  os.FileMode
		owner account
	}{
		{"log", 0o755, root}, {"pid", 0o755, root}, {"etc", 0o755, root}, {"etc/secrets", 0o700, root}, {"etc/tls", 0o755, root},
		{"postgres", 0o755, postgres}, {"postgres/socket", 0o755, postgres},
		{"postfix/etc", 0o755, root}, {"postfix/queue", 0o755, root}, {"postfix/data", 0o700, postfix},
		{"postfix/queue/sidecar", 0o750 | os.ModeSetgid, account{0, postfix.gid}},
		{"primary/etc", 0o755, root}, {"primary/queue", 0o755, root}, {"primary/data", 0o700, postfix}, {"primary/mail", 0o755, mailOwner},
		{"internet/etc", 0o755, root}, {"internet/queue", 0o755, root}, {"internet/data", 0o700, postfix}, {"internet/mail", 0o755, mailOwner},
		{"dovecot/etc", 0o755, root}, {"dovecot/run", 0o755, root}, {"dovecot/state", 0o755, root}, {"dovecot/mail", 0o750, mailOwner},
		{"state", 0o755, root}, {"state/milter", 0o750, root}, {"state/policyd", 0o750, root}, {"state/dovecot-auth", 0o750, root},
		{"state/worker", 0o750, root}, {"state/admin", 0o750, root}, {"state/control", 0o750, root},
		{"state/lua", 0o750 | os.ModeSetgid, account{0, dovecot.gid}},
		{"archive", 0o750, root},
	} {
		if err := makeDir(s.layout.path(d.path), d.mode, d.owner); err != nil {
			return err
		}
	}
	return nil
}

// makeSecrets writes random secrets, readable by root alone.
func (s *Stack) makeSecrets() error {
	names := []string{"doveadm-api-key", "portal-master", "login-operator", "login-admin"}
	for _, r := range databaseRoles {
		names = append(names, "database-"+r)
	}
	for _, u := range Registered {
		names = append(names, "login-"+u)
	}
	for _, n := range names {
		if err := writeFile(s.layout.secretPath(n), []byte(strings.ToLower(rand.Text())+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// file is one rendered template.
type file struct {
	role, template, path string
	mode                 os.FileMode
	group                int
}

func (s *Stack) files() []file {
	l := &s.layout
	dovecotGroup := 0
	if a, err := lookupAccount("dovecot"); err == nil { // makeDirectories has found it
		dovecotGroup = a.gid
	}
	dovecot := "dovecot-2.3.conf.j2"
	if atLeast(l.DovecotVersion, "2.4") {
		dovecot = "dovecot-2.4.conf.j2"
	}
	files := []file{
		{"postfix", "main.cf.j2", l.path("postfix", "etc", "main.cf"), 0o644, 0},
		{"postfix", "master.cf.j2", l.path("postfix", "etc", "master.cf"), 0o644, 0},
		{"dovecot", dovecot, l.path("dovecot", "etc", "dovecot.conf"), 0o600, 0},
		{"dovecot", "masters.j2", l.path("dovecot", "etc", "understudy-masters"), 0o640, dovecotGroup},
		{"dovecot", "understudy-auth.lua.j2", l.path("dovecot", "etc", "understudy-auth.lua"), 0o644, 0},
	}
	for _, c := range []Component{Milter, Policyd, DovecotAuth, Worker, Admin} {
		files = append(files, file{"understudy", string(c) + ".yml.j2", s.configFile(c), 0o640, 0})
	}
	return files
}

// configFile is a service's YAML file.
func (s *Stack) configFile(c Component) string { return s.layout.path("etc", string(c)+".yml") }

// hexSHA256 is how Dovecot's masters file holds the master password: it is
// random and long, so a plain digest will do.
func hexSHA256(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
