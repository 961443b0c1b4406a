package stack

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// Each role's argument_specs.yml names every default with its value and type,
// and every template variable has a default.
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
	known := Variables{"ansible_managed": nil, "folder": nil}
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
			known[name] = value
			o, ok := options[name]
			if want := map[bool]string{true: "bool"}[isBool(value)]; want != "" && o.Type != want {
				t.Errorf("%s: type %s, want %s", name, o.Type, want)
			}
			if !ok || o.Default != value {
				t.Errorf("%s: the specification's default is %v, want %v", name, o.Default, value)
			}
		}
		if d, o := slices.Sorted(maps.Keys(defaults)), slices.Sorted(maps.Keys(options)); !slices.Equal(d, o) {
			t.Errorf("role %s has defaults for\n%v\nand specifies\n%v", role, d, o)
		}
	}
	variable := regexp.MustCompile(`(?:\{\{|\{%-? (?:if|for \w+ in)| if) ([a-z]\w+)`)
	for _, x := range templates(t) {
		text, err := os.ReadFile(filepath.Join(repoRoot, "ansible", "roles", x[0], "templates", x[1]))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variable.FindAllSubmatch(text, -1) {
			if _, ok := known[string(m[1])]; !ok {
				t.Errorf("%s/%s uses %s, which has no default", x[0], x[1], m[1])
			}
		}
	}
}

func isBool(v any) bool { _, ok := v.(bool); return ok }
