package matrix

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	docFile   = repoRoot + "/docs/failures.md"
	tableHead = "<!-- measured by go test ./internal/matrix -update -->\n"
	tableTail = "<!-- end -->\n"
)

// document writes the table (-update), or compares its outcomes.
func document(t *testing.T, results []result) {
	t.Helper()
	text, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := bytes.Cut(text, []byte(tableHead))
	table, tail, ok2 := bytes.Cut(rest, []byte(tableTail))
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", docFile)
	}
	if t.Failed() {
		return
	}
	measured := render(results)
	if *update {
		out := slices.Concat(before, []byte(tableHead), []byte(measured), []byte(tableTail), tail)
		if err := os.WriteFile(docFile, out, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, want := withoutSeconds(measured), withoutSeconds(string(table))
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("docs/failures.md does not say: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("docs/failures.md says, and it is not so: %s", line)
		}
	}
}

// render writes the table.
func render(results []result) string {
	var b strings.Builder
	b.WriteString("| the primary | the message | timeout that passes first | then seconds, until it is there |\n|---|---|---|---|\n")
	for i, r := range rows {
		wait, took := "", results[i].took
		if r.setting != "" {
			wait = r.setting
			took -= r.wait
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f |\n", r.name, words(&r, results[i].outcome), wait, max(took, 50*time.Millisecond).Seconds())
	}
	return b.String()
}

// words sums up the outcomes.
func words(r *row, got map[string]outcome) string {
	var parts []string
	same := true
	for _, local := range slices.Sorted(maps.Keys(got)) {
		same = same && got[local] == got["ana"]
		parts = append(parts, local+": "+string(got[local]))
	}
	text := strings.Join(parts, ", ")
	if same && len(parts) > 0 {
		text = string(got["ana"])
	}
	if r.twice {
		text += ", and perhaps the primary too"
	}
	return text
}

// withoutSeconds is the table's lines but for the last column.
func withoutSeconds(table string) []string {
	var out []string
	for line := range strings.Lines(table) {
		line = strings.TrimSuffix(strings.TrimSpace(line), "|")
		if i := strings.LastIndexByte(line, '|'); i > 0 {
			out = append(out, strings.TrimSpace(line[:i]))
		}
	}
	return out
}
