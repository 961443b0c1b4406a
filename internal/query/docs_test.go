package query

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocumented: every example of docs/search.md is a query, each field is
// described there, and the error is the one shown.
func TestDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/search.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	code := regexp.MustCompile("`[^`]+`")
	examples := 0
	for line := range strings.Lines(doc) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		left, _, _ := strings.Cut(line[2:], " | ")
		for _, example := range code.FindAllString(left, -1) {
			q, err := Parse(strings.Trim(example, "`"))
			if err != nil || q.Root == nil {
				t.Errorf("%s: %v", example, err)
			}
			examples++
		}
	}
	if examples < 30 {
		t.Errorf("only %d examples", examples)
	}
	for name := range fields {
		if name != "message-id" && !strings.Contains(doc, "`"+name+":") {
			t.Errorf("%s: is not described", name)
		}
	}
	blocks := strings.Split(doc, "```\n")
	if _, err := Parse(strings.TrimSpace(blocks[1])); err != nil {
		t.Error(err)
	}
	wrong, _, _ := strings.Cut(blocks[3], "\n")
	_, err = Parse(wrong)
	if e, ok := err.(*Error); !ok || e.Caret(wrong)+"\n" != blocks[3] {
		t.Errorf("got %v", err)
	}
}
