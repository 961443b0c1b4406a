// Package layout holds the rules of the source tree, as tests.
package layout

import (
	"os/exec"
	"strings"
	"testing"
)

// TestMailServicesDoNotImportStore keeps PostgreSQL's queries and the website
// out of the processes on the mail path.
func TestMailServicesDoNotImportStore(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"milter", "policyd", "dovecot-auth"} {
		out, err := exec.Command("go", "list", "-deps", "understudy/"+service).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v: %s", err, out)
		}
		for pkg := range strings.Lines(string(out)) {
			pkg = strings.TrimSpace(pkg)
			if pkg == "understudy/internal/store" || pkg == "understudy/admin" || strings.HasPrefix(pkg, "understudy/admin/") {
				t.Errorf("%s imports %s", service, pkg)
			}
		}
	}
}
