package stack

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// Each role's argument_specs.yml names every default with its value and type.
func TestRoleArguments(t *testing.T) {
	t.Parallel()
	read := func(into any, elem ...string) {
		text, err := os.ReadFile(filepath.Join(append([]string{repoRoot, "ansible", "roles"}, elem...)...))
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range rolesWithDefaults {
		var defaults map[string]any
		var specs struct {
			ArgumentSpecs struct {
				Main struct {
					Options map[string]struct {
						Type    string
						Default any
					}
				}
			} `yaml:"argument_specs"`
		}
		read(&defaults, role, "defaults", "main.yml")
		read(&specs, role, "meta", "argument_specs.yml")
		options := specs.ArgumentSpecs.Main.Options
		for name, value := range defaults {
			if text, ok := value.(string); ok && strings.Contains(text, "{{") {
				continue // made by Ansible; the specification cannot say it
			}
			o, ok := options[name]
			if want := map[bool]string{true: "bool"}[isBool(value)]; want != "" && o.Type != want {
				t.Errorf("%s: type %s, want %s", name, o.Type, want)
			}
			if !ok || !cmp.Equal(o.Default, value) {
				t.Errorf("%s: the specification's default is %v, want %v", name, o.Default, value)
			}
		}
		if d, o := slices.Sorted(maps.Keys(defaults)), slices.Sorted(maps.Keys(options)); !slices.Equal(d, o) {
			t.Errorf("role %s has defaults for\n%v\nand specifies\n%v", role, d, o)
		}
	}
}

func isBool(v any) bool { _, ok := v.(bool); return ok }
