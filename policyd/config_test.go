package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/internal/config"
)

const goodConfig = `
database: {url: "postgres://understudy_mail@127.0.0.1:5432/understudy"}
state_directory: /var/lib/understudy/policyd
metrics_listen: 127.0.0.1:9102
policy_listen: unix:/var/spool/postfix/sidecar/policy
socketmap_listen: unix:/var/spool/postfix/sidecar/socketmap
control_listen: unix:/run/understudy/control
`

func loadConfig(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policyd.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := defaults()
	return c, config.Load(path, c)
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	c, err := loadConfig(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	if c.PortalTransport != "lmtp:unix:private/dovecot-lmtp" || c.MaxConnections != 2000 || c.Limits.Mailbox.PerHour == 0 {
		t.Errorf("got %+v", c)
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"missing socket", strings.Replace(goodConfig, "control_listen: unix:/run/understudy/control\n", "", 1), "control_listen: is missing"},
		{"no kind", strings.Replace(goodConfig, "unix:/run/", "/run/", 1), `control_listen: "/run/understudy/control" is neither`},
		{"no port", strings.Replace(goodConfig, "unix:/run/understudy/control", "inet:127.0.0.1", 1), "control_listen"},
		{"transport without next hop", goodConfig + "portal_transport: lmtp\n", "portal_transport"},
		{"transport with a line break", goodConfig + "portal_transport: \"lmtp:a\\nb\"\n", "portal_transport"},
		{"no connections", goodConfig + "max_connections: 0\n", "max_connections: must be more than 0"},
		{"limit without a burst", goodConfig + "limits: {mailbox: {per_hour: 10, burst: 0}}\n", "limits.mailbox.burst"},
		{"negative limit", goodConfig + "limits: {network: {per_day: -1}}\n", "limits.network"},
		{"unknown key", goodConfig + "policy_lisen: unix:/x\n", `unknown field "policy_lisen"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := loadConfig(t, tt.text); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}
