// Package directorytest leaves saved directories for tests, as an earlier
// process of a service would have.
package directorytest

import (
	"encoding/json"
	"os"
	"testing"

	"understudy/internal/directory"
)

// Save writes a full change as the file that Directory.Load reads (its format
// stands in internal/directory/file.go).
func Save(tb testing.TB, path string, c *directory.Change) {
	tb.Helper()
	rows, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte(`{"format":2,"lines":1}`+"\n"), append(rows, '\n')...), 0o600); err != nil {
		tb.Fatal(err)
	}
}
