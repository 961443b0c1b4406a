package stack

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// rolesWithDefaults are the Ansible roles whose templates the stack renders, and
// whose settings it takes over. A template may use the defaults of all of them, as in a play that names
// them all.
var rolesWithDefaults = []string{"postfix", "dovecot", "understudy", "postgresql"}

// Variables are what templates are rendered with: Ansible variable names and
// their values.
type Variables map[string]any

// Roles renders the templates of Ansible roles as Ansible does, so that a
// setting is written down once, there.
type Roles struct {
	dir      string // .../ansible/roles
	defaults Variables
}

// OpenRoles reads the roles' defaults from a checkout of this repository.
func OpenRoles(repoRoot string) (*Roles, error) {
	r := &Roles{dir: filepath.Join(repoRoot, "ansible", "roles"), defaults: Variables{"ansible_managed": "Ansible managed"}}
	for _, role := range rolesWithDefaults {
		path := filepath.Join(r.dir, role, "defaults", "main.yml")
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read role defaults: %w", err)
		}
		defaults := Variables{}
		if err := yaml.Unmarshal(text, &defaults); err != nil {
			return nil, fmt.Errorf("read role defaults %s: %w", path, err)
		}
		maps.Copy(r.defaults, defaults)
	}
	return r, nil
}

// Defaults returns a copy of all roles' defaults.
func (r *Roles) Defaults() Variables { return maps.Clone(r.defaults) }

// Render renders roles/ROLE/templates/NAME with the defaults, overridden by
// vars. A variable that is not defined is an error.
func (r *Roles) Render(role, name string, vars Variables) ([]byte, error) {
	path := filepath.Join(r.dir, role, "templates", name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	out, err := renderJinja(path, text, r.defaults, vars)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", path, err)
	}
	return out, nil
}

// renderJinja is Jinja2 with the settings of Ansible's template module:
// trim_blocks, keep_trailing_newline, undefined variables refused.
func renderJinja(name string, text []byte, vars ...Variables) ([]byte, error) {
	cfg := config.New()
	cfg.TrimBlocks = true
	cfg.KeepTrailingNewline = true
	cfg.StrictUndefined = true
	none, err := loaders.NewFileSystemLoader("")
	if err != nil {
		return nil, err
	}
	loader, err := loaders.NewShiftedLoader(name, bytes.NewReader(text), none)
	if err != nil {
		return nil, err
	}
	env := &exec.Environment{
		Context: exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables),
		Filters: builtins.Filters, Tests: builtins.Tests,
		ControlStructures: builtins.ControlStructures, Methods: builtins.Methods,
	}
	t, err := exec.NewTemplate(name, cfg, loader, env)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	for _, v := range vars {
		maps.Copy(all, v)
	}
	return t.ExecuteToBytes(exec.NewContext(all))
}
