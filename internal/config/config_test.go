package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type testConfig struct {
	Common `yaml:",inline"`
	Wait   time.Duration `yaml:"wait"`
}

func (c *testConfig) Validate() error {
	return errors.Join(c.Common.Validate(), Positive("wait", c.Wait))
}

const good = `
database: {url: "postgres://u@127.0.0.1:5432/x"}
state_directory: /var/lib/x
metrics_listen: 127.0.0.1:9100
`

func load(t *testing.T, text string) (*testConfig, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "service.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &testConfig{Wait: time.Second}
	return c, Load(path, c)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := load(t, good+"wait: 1m30s\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.Wait != 90*time.Second || c.StateDirectory != "/var/lib/x" {
		t.Errorf("got %+v", c)
	}
}

func TestLoadMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"unknown key", good + "wiat: 1s\n", `[5:1] unknown field "wiat"`},
		{"wrong type", good + "wait: [1]\n", "[5:7]"},
		{"not positive", good + "wait: 0s\n", "wait: must be more than 0"},
		{"missing", strings.Replace(good, "state_directory: /var/lib/x\n", "", 1), "state_directory: is missing"},
		{"password in URL", strings.Replace(good, "u@", "u:secret@", 1), "password_file"},
		{"not YAML", "a: b: c", "1:"},
		{"bad level", good + "log_level: loud\n", "log_level"},
		{"empty file", "", "database.url: is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.text)
			if err == nil || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret@") {
				t.Error("the error shows a password")
			}
		})
	}
}
