package stack

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const repoRoot = "../.."

// templates returns role and template of all that a stack renders, with
// either Dovecot.
func templates(t *testing.T) (all [][2]string) {
	t.Helper()
	for _, version := range []string{"2.3", "2.4"} {
		s := &Stack{layout: layout{DovecotVersion: version}}
		for _, f := range s.files() {
			if x := [2]string{f.role, f.template}; !slices.Contains(all, x) {
				all = append(all, x)
			}
		}
	}
	return all
}

// Both renderers must agree on every template, with each branch taken and not
// taken.
func TestTemplatesRenderAsInAnsible(t *testing.T) {
	t.Parallel()
	variants := map[string]Variables{
		"defaults": {},
		"other branches": {
			"postfix_knows_tls_required": true, "postfix_smtputf8_enable": true, "postfix_peername_lookup": false,
			"postfix_maillog_file": "/run/x/mail.log", "postfix_submission_service": "", "postfix_submissions_service": "",
			"postfix_tls_ca_file": "", "postfix_relayhost": "[127.0.0.1]:2525", "postfix_chroot": "n",
			"dovecot_allow_cleartext": true, "dovecot_login_trusted_networks": "127.0.0.0/8",
			"dovecot_imap_port": 20143, "dovecot_master_password_sha256": "00ff", "dovecot_doveadm_api_key": "k<&>\"'",
			"understudy_archive_bucket_url": "s3://archive?region=eu-west-1", "understudy_archive_bucket_credentials_file": "/etc/keys",
			"understudy_archive_recipients": []any{"age1one", "age1two"}, "understudy_archive_identity": "/etc/key",
		},
	}
	for name, vars := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roles, err := OpenRoles(repoRoot)
			if err != nil {
				t.Fatal(err)
			}
			want := renderWithAnsible(t, roles, vars)
			for _, x := range templates(t) {
				got, err := roles.Render(x[0], x[1], vars)
				if err != nil {
					t.Errorf("%s/%s: %v", x[0], x[1], err)
					continue
				}
				if diff := cmp.Diff(want[x], string(got)); diff != "" {
					t.Errorf("%s/%s differs (-Ansible +here):\n%s", x[0], x[1], diff)
				}
			}
		})
	}
}

// renderWithAnsible runs one playbook that renders every template.
func renderWithAnsible(t *testing.T, roles *Roles, vars Variables) map[[2]string]string {
	t.Helper()
	dir := t.TempDir()
	all := roles.Defaults()
	for k, v := range vars {
		all[k] = v
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(filepath.Join(repoRoot, "ansible", "roles"))
	if err != nil {
		t.Fatal(err)
	}
	var play strings.Builder
	play.WriteString("- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n" +
		"    - ansible.builtin.template: {src: '{{ item.src }}', dest: '{{ item.dest }}', mode: '0600'}\n      loop:\n")
	for _, x := range templates(t) {
		fmt.Fprintf(&play, "        - {src: '%s/%s/templates/%s', dest: '%s/%s.%s'}\n", abs, x[0], x[1], dir, x[0], x[1])
	}
	for name, content := range map[string]string{"play.yml": play.String(), "vars.json": string(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "ansible-playbook", "-i", "localhost,", "-e", "@"+dir+"/vars.json", dir+"/play.yml")
	cmd.Env = append(os.Environ(), "ANSIBLE_LOCAL_TEMP="+dir, "ANSIBLE_REMOTE_TEMP="+dir, "ANSIBLE_NOCOLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ansible-playbook: %v\n%s", err, out)
	}
	want := map[[2]string]string{}
	for _, x := range templates(t) {
		got, err := os.ReadFile(filepath.Join(dir, x[0]+"."+x[1]))
		if err != nil {
			t.Fatal(err)
		}
		want[x] = string(got)
	}
	return want
}

func TestUndefinedVariableIsAnError(t *testing.T) {
	t.Parallel()
	if out, err := renderJinja("x", []byte("a {{ nowhere }}\n"), Variables{}); err == nil {
		t.Fatalf("rendered %q", out)
	}
}
