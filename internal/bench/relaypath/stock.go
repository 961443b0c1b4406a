package relaypath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/freeport"
	"understudy/internal/stack"
)

// stock is a Postfix that is configured as the gateway's is, but for what is
// ours: it relays the domain to the same primary by itself.
type stock struct{ dir, smtp string }

// startStock copies the gateway's configuration and takes ours out of it.
func startStock(ctx context.Context, e *bench.Env, g *rig.Gateway, name string, alwaysBcc bool) (*stock, error) {
	p := &stock{dir: filepath.Join(e.Dir, name)}
	var err error
	if p.smtp, err = freeport.Address(); err != nil {
		return nil, err
	}
	if err := p.directories(); err != nil {
		return nil, err
	}
	main, err := os.ReadFile(filepath.Join(g.Info.PostfixConfig, "main.cf"))
	if err != nil {
		return nil, err
	}
	master := fmt.Sprintf(masterCF, p.smtp)
	settings := map[string]string{
		"queue_directory": p.dir + "/queue", "data_directory": p.dir + "/data", "maillog_file": p.dir + "/log", "maillog_file_prefixes": p.dir,
		"smtpd_milters": "", "non_smtpd_milters": "",
		"relay_domains": "static:all", "transport_maps": "inline:{ " + stack.Domain + "=relay:[127.0.0.1]" + g.Info.Primary.SMTP[len("127.0.0.1"):] + " }",
		"smtpd_relay_restrictions": "reject_unauth_destination", "smtpd_recipient_restrictions": "reject_non_fqdn_recipient",
		"smtpd_sender_login_maps": "", "smtp_tls_policy_maps": "",
	}
	if alwaysBcc {
		settings["always_bcc"] = "archive@archive.test"
		settings["virtual_mailbox_domains"] = "archive.test"
		settings["virtual_mailbox_base"] = p.dir + "/mail"
		settings["virtual_mailbox_maps"] = "static:archive/"
		settings["virtual_uid_maps"], settings["virtual_gid_maps"] = "static:21000", "static:21000"
		settings["relay_domains"] = stack.Domain
	}
	for file, text := range map[string]string{"main.cf": string(main), "master.cf": master} {
		if err := os.WriteFile(filepath.Join(p.dir, "etc", file), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	args := []string{"-c", p.dir + "/etc", "-e"}
	for key, value := range settings {
		args = append(args, key+"="+value)
	}
	if out, err := exec.CommandContext(ctx, "postconf", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("configure %s Postfix: %w: %s", name, err, out)
	}
	if err := p.run(ctx, "start"); err != nil {
		return nil, err
	}
	if err := rig.Wait(ctx, 20*time.Second, func() error { return rig.Listens(p.smtp) }); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// directories makes what Postfix does not make for itself.
func (p *stock) directories() error {
	u, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		uid  int
		mode fs.FileMode
	}{{"etc", 0, 0o755}, {"queue", 0, 0o755}, {"data", uid, 0o700}, {"mail", 21000, 0o755}} {
		path := filepath.Join(p.dir, d.name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, d.uid, d.uid), os.Chmod(path, d.mode)); err != nil {
			return err
		}
	}
	return nil
}

func (p *stock) run(ctx context.Context, command string) error {
	if out, err := exec.CommandContext(ctx, "postfix", "-c", p.dir+"/etc", command).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(p.dir + "/log")
		return fmt.Errorf("postfix %s: %w: %s %s", command, err, out, log[max(0, len(log)-1000):])
	}
	return nil
}

func (p *stock) stop() error { return p.run(context.Background(), "stop") }

// masterCF has what the gateway's has, without the services that are ours.
const masterCF = `%s inet n - n - 100 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
