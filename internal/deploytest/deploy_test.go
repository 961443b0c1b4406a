//go:build deploy

package deploytest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"understudy/internal/wait"
)

func TestDebian12WithoutSystemd(t *testing.T) {
	t.Parallel()
	m := newMachine(t, system{release: "bookworm"})
	t.Run("refuses a wrong type", m.refusesWrongType)
	t.Run("check mode on a bare machine", m.checkBare)
	if !t.Run("deploy", m.deployTwice) {
		return // nothing is there to be tried
	}
	t.Run("check mode", m.checkDeployed)
	t.Run("use", m.use)
}

func TestDebian12(t *testing.T) {
	t.Parallel()
	newMachine(t, system{release: "bookworm", systemd: true}).withSystemd(t)
}

func TestDebian13(t *testing.T) {
	t.Parallel()
	newMachine(t, system{release: "trixie", systemd: true}).withSystemd(t)
}

func (m *machine) withSystemd(t *testing.T) {
	if !t.Run("deploy", m.deployTwice) {
		return // nothing is there to be tried
	}
	t.Run("use", m.use)
	t.Run("killed services come back", m.killServices)
	t.Run("without PostgreSQL", m.withoutPostgreSQL)
	t.Run("boots again", m.bootAgain)
}

// services and the ports of their health endpoints.
var services = map[string]int{"milter": 9701, "policyd": 9702, "dovecot-auth": 9703, "worker": 9704, "admin": 9705}

// refusesWrongType: the roles' argument specifications are applied before
// anything is changed.
func (m *machine) refusesWrongType(t *testing.T) {
	for _, arg := range []string{"dovecot_imap_port=imap", "postfix_reentry_port=none", "understudy_drain_concurrency=many", "postgresql_port=x"} {
		out, _, err := m.playbook(t, "-e", arg)
		name, _, _ := strings.Cut(arg, "=")
		if err == nil || !strings.Contains(out, name) || !strings.Contains(out, "Validation of arguments failed") {
			t.Errorf("%s: %v, want a refusal\n%s", arg, err, out)
		}
		if strings.Contains(out, "changed: [mx]") {
			t.Errorf("%s: changed something before", arg)
		}
	}
}

// checkBare: check mode tells what would be installed.
func (m *machine) checkBare(t *testing.T) {
	out, changed := m.deploy(t, "--check")
	if changed == 0 || !strings.Contains(out, "Understudy was never deployed here") {
		t.Errorf("changed=%d\n%s", changed, out)
	}
	if _, err := m.try("", "test ! -e /etc/postfix && test ! -e /etc/understudy"); err != nil {
		t.Error("check mode changed the machine")
	}
}

// checkDeployed: check mode finds nothing to do.
func (m *machine) checkDeployed(t *testing.T) {
	if out, changed := m.deploy(t, "--check", "--diff"); changed != 0 {
		t.Errorf("check mode would change %d tasks:\n%s", changed, out)
	}
}

// deployTwice: the second run changes nothing, and secrets are printed by none.
func (m *machine) deployTwice(t *testing.T) {
	first, _ := m.deploy(t)
	second, changed := m.deploy(t)
	if changed != 0 {
		t.Errorf("the second run changed %d tasks:\n%s", changed, second)
	}
	for _, name := range []string{"database-understudy", "database-understudy_app", "database-understudy_mail", "database-understudy_auth", "doveadm-api-key", "portal-master"} {
		secret := m.exec(t, "", "cat /etc/understudy/secrets/"+name)
		if len(secret) < 32 {
			t.Errorf("%s has %d characters", name, len(secret))
		}
		if strings.Contains(first+second, secret) {
			t.Errorf("Ansible printed %s", name)
		}
		if out, err := m.try("", "grep -rlF "+secret+" /var/log"); err == nil {
			t.Errorf("%s stands in %s", name, out)
		}
	}
}

// address and password of the one mailbox.
const (
	ana      = "ana@example.test"
	password = "correct horse battery staple"
)

// use provisions a domain and sends mail through an outage of its primary.
func (m *machine) use(t *testing.T) {
	m.allUp(t)
	m.exec(t, "", "understudy-admin domain add example.test --primary 127.0.0.1:2525") // nobody is there
	m.exec(t, password+"\n", "understudy-admin mailbox add "+ana+" --password-stdin")

	// The primary is down and nobody switched: the message is accepted, archived, and waits.
	before := message("before-"+m.release, "someone@elsewhere.test", ana)
	wait.Until(t, "mail accepted", func() error { return m.send("someone@elsewhere.test", ana, before) })
	wait.Until(t, "archive", func() error { return m.inArchive(ana, before) })
	wait.Until(t, "deferral", func() error {
		if out := m.exec(t, "", "postqueue -p"); !strings.Contains(out, "refused") {
			return errors.New(out)
		}
		return nil
	})

	// The switch: what waits is sent to the portal by the worker, long before Postfix would have tried again.
	m.exec(t, "", "understudy-admin mode example.test emergency --reason test")
	wait.Until(t, "queued mail in the portal", func() error { return m.inInbox(ana, password, "before-"+m.release) })

	during := message("during-"+m.release, "someone@elsewhere.test", ana)
	if err := m.send("someone@elsewhere.test", ana, during); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "mail in the portal", func() error { return m.inInbox(ana, password, "during-"+m.release) })
	if err := m.inArchive(ana, during); err != nil {
		t.Error(err)
	}

	own := message("own-"+m.release, ana, ana)
	if err := m.submit(ana, password, ana, own); err != nil {
		t.Fatalf("submission: %v", err)
	}
	wait.Until(t, "submitted mail in the portal", func() error { return m.inInbox(ana, password, "own-"+m.release) })

	var refused *smtp.SMTPError
	if err := m.send("someone@elsewhere.test", "nobody@example.test", during); !errors.As(err, &refused) || refused.Code != 550 {
		t.Errorf("unregistered recipient in emergency: %v, want 550", err)
	}
	if err := m.send("someone@elsewhere.test", "someone@other.test", during); !errors.As(err, &refused) || refused.Code/100 != 5 {
		t.Errorf("relaying: %v, want 5xx", err)
	}
	wait.Until(t, "archive index", func() error {
		if out := m.exec(t, "", "understudy-admin archive search --domain example.test"); strings.Count(out, "-"+m.release) < 3 {
			return errors.New(out)
		}
		return nil
	})
	m.exec(t, "", `zstd -dc /var/lib/understudy/archive/open/*.tar.zst | tar -t | grep -q '\.eml$'`)
}

// allUp waits until every port answers and every service says that it is well.
func (m *machine) allUp(t *testing.T) {
	t.Helper()
	for _, port := range []int{25, 465, 587, 143, 993, 110, 995, 9700, 10026, 10027, 8180} {
		wait.Until(t, fmt.Sprintf("port %d", port), func() error {
			c, err := m.dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
	for name, port := range services {
		wait.Until(t, "health of "+name, func() error { return m.healthy(port) })
	}
}

// killServices: systemd starts again what dies.
func (m *machine) killServices(t *testing.T) {
	for name, port := range services {
		unit := "understudy-" + name
		pid := m.exec(t, "", "systemctl show -P MainPID "+unit)
		if n, err := strconv.Atoi(pid); err != nil || n <= 1 {
			t.Fatalf("main process of %s is %q", unit, pid)
		}
		m.exec(t, "", "kill -9 "+pid)
		wait.Until(t, unit, func() error {
			now := m.exec(t, "", "systemctl show -P MainPID "+unit)
			if now == pid || now == "0" {
				return fmt.Errorf("main process %s, killed %s", now, pid)
			}
			return m.healthy(port)
		})
	}
	m.stillWorks(t, "killed-"+m.release)
}

// withoutPostgreSQL: the mail services start from the directory on disk.
func (m *machine) withoutPostgreSQL(t *testing.T) {
	m.exec(t, "", "systemctl stop postgresql postgresql@*")
	m.exec(t, "", "systemctl restart understudy-milter understudy-policyd understudy-dovecot-auth")
	for _, name := range []string{"milter", "policyd", "dovecot-auth"} {
		wait.Until(t, "health of "+name, func() error { return m.healthy(services[name]) })
	}
	m.stillWorks(t, "database-"+m.release)
	m.exec(t, "", "systemctl start postgresql")
	m.allUp(t)
}

// bootAgain: after a shutdown and a boot all is up, without Ansible.
func (m *machine) bootAgain(t *testing.T) {
	m.stop(t)
	m.start(t)
	m.allUp(t)
	m.stillWorks(t, "booted-"+m.release)
	if out := m.exec(t, "", "systemctl list-units --failed --no-legend --plain 'understudy-*' 'postfix*' dovecot.service 'postgresql*'"); out != "" {
		t.Errorf("failed units:\n%s", out)
	}
}

// stillWorks sends a message from outside and one by submission.
func (m *machine) stillWorks(t *testing.T, token string) {
	t.Helper()
	wait.Until(t, "mail accepted", func() error {
		return m.send("someone@elsewhere.test", ana, message(token, "someone@elsewhere.test", ana))
	})
	wait.Until(t, "submission", func() error { return m.submit(ana, password, ana, message("own-"+token, ana, ana)) })
	for _, token := range []string{token, "own-" + token} {
		wait.Until(t, "mail in the portal", func() error { return m.inInbox(ana, password, token) })
	}
}
