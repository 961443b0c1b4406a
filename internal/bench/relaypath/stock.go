package relaypath

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/freeport"
	"understudy/internal/stack"
)

// archiveUID owns the maildir of always_bcc.
const archiveUID = 21000

// stock is a Postfix that is configured as the gateway's is, but for what is
// ours: it relays the domain to the same primary by itself.
type stock struct {
	*postfixtest.Instance
	smtp string // where it listens
}

// startStock copies the gateway's configuration, takes ours out of it and sets
// what is to be different.
func startStock(ctx context.Context, e *bench.Env, g *rig.Gateway, name string, different map[string]string) (*stock, error) {
	main, err := os.ReadFile(filepath.Join(g.Info.PostfixConfig, "main.cf"))
	if err != nil {
		return nil, err
	}
	p := &stock{}
	if p.smtp, err = freeport.Address(); err != nil {
		return nil, err
	}
	dir := filepath.Join(e.Dir, name)
	// As many processes as the gateway's.
	if p.Instance, err = postfixtest.Prepare(dir, string(main), p.smtp+" inet n - n - 100 smtpd\n"+postfixtest.Services); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(dir+"/mail", 0o755), os.Chown(dir+"/mail", archiveUID, archiveUID)); err != nil {
		return nil, err
	}
	settings := map[string]string{
		"queue_directory": dir + "/queue", "data_directory": dir + "/data", "maillog_file": dir + "/log", "maillog_file_prefixes": dir,
		"smtpd_milters": "", "non_smtpd_milters": "",
		"relay_domains": "static:all", "transport_maps": "inline:{ " + stack.Domain + "=relay:[127.0.0.1]" + g.Info.Primary.SMTP[len("127.0.0.1"):] + " }",
		"smtpd_relay_restrictions": "reject_unauth_destination", "smtpd_recipient_restrictions": "reject_non_fqdn_recipient",
		"smtpd_sender_login_maps": "", "smtp_tls_policy_maps": "", "virtual_mailbox_base": dir + "/mail",
	}
	maps.Copy(settings, different)
	args := []string{"-c", dir, "-e"}
	for key, value := range settings {
		args = append(args, key+"="+value)
	}
	if err := p.Command(ctx, "postconf", args...); err != nil {
		return nil, err
	}
	return p, p.Start(ctx, p.smtp)
}

// alwaysBcc archives as a stock Postfix can: a copy of each message in a
// maildir.
var alwaysBcc = map[string]string{
	"always_bcc": "archive@archive.test", "relay_domains": stack.Domain,
	"virtual_mailbox_domains": "archive.test", "virtual_mailbox_maps": "static:archive/",
	"virtual_uid_maps": "static:" + strconv.Itoa(archiveUID), "virtual_gid_maps": "static:" + strconv.Itoa(archiveUID),
}
