package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const goodConfig = `database: {url: 'postgres://understudy@127.0.0.1:1/understudy'}
state_directory: /var/lib/understudy
metrics_listen: 127.0.0.1:9101
listen: unix:/run/understudy/milter
archive_directory: /var/lib/understudy/archive
`

func TestCheck(t *testing.T) {
	t.Parallel()
	bin := program(t)
	for _, c := range []struct{ name, text, want string }{
		{"good", goodConfig, ""},
		{"all keys", goodConfig + "segment_max_bytes: 1000\nsegment_max_age: 5m\nmax_message_bytes: 1000\nmax_connections: 5\nlog_level: debug\n", ""},
		{"empty", "", "archive_directory: is missing"},
		{"unknown key", goodConfig + "archive_dir: /x\n", "archive_dir"},
		{"wrong type", goodConfig + "max_connections: many\n", "max_connections"},
		{"no duration", goodConfig + "segment_max_age: soon\n", "soon"},
		{"zero", goodConfig + "max_message_bytes: 0\n", "max_message_bytes: must be more than 0"},
		{"too much", goodConfig + "max_message_bytes: 2000000000\n", "max_message_bytes: must not be more"},
		{"encrypted", goodConfig + "archive_recipients: [age1j5pnhpuzsg9kzv4hhl4624awpxy3489e5xh60wfv2p9mcshgqpdq9cmlkv]\n", ""},
		{"no recipient", goodConfig + "archive_recipients: [age1nobody]\n", "archive_recipients: number 1 is no public key of age"},
		{"bad socket", strings.Replace(goodConfig, "unix:/run", "/run", 1), "listen: want unix:/path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "milter.yml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			cmd := exec.Command(bin, "-check", "-config", path)
			cmd.Stderr = &errs
			err := cmd.Run()
			if c.want == "" && (err != nil || errs.Len() > 0) {
				t.Errorf("%v: %s", err, errs.String())
			}
			if c.want != "" && (cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), c.want)) {
				t.Errorf("exit %d, says %q, want %q", cmd.ProcessState.ExitCode(), errs.String(), c.want)
			}
		})
	}
	for _, args := range [][]string{{"-nope"}, {"surplus"}} {
		cmd := exec.Command(bin, args...)
		if cmd.Run(); cmd.ProcessState.ExitCode() != 2 { //nolint:errcheck // the code tells
			t.Errorf("%v exits %d, want 2", args, cmd.ProcessState.ExitCode())
		}
	}
}
