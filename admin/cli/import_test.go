package cli

import (
	"strings"
	"testing"
)

func TestParseImport(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"empty":             {"", "no mailboxes"},
		"only a head":       {"address,name\n", "no mailboxes"},
		"not UTF-8":         {"a@b.test,\xff\n", "not in UTF-8"},
		"open quote":        {"a@b.test,\"x\n", "line 1"},
		"too many columns":  {"a@b.test,n,,yes,more\n", "line 1: 5 columns"},
		"unknown column":    {"address,phone\na@b.test,1\n", `line 1: column "phone"`},
		"column twice":      {"address,address\na@b.test,b@b.test\n", "each once"},
		"no address column": {"name\nAna\n", "no column is named address"},
		"no address":        {"name,address\nAna,\n", "line 2: the address is missing"},
		"detail":            {"a+x@b.test\n", `leave out "+x"`},
		"line in a quote":   {"a@b.test,\"x\ny\"\nnonsense\n", "line 3: not an e-mail"},
	} {
		if _, err := parseImport(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	rows, err := parseImport(strings.NewReader("\xef\xbb\xbfname;address;covered\r\nAna;ANA@B.test;0\r\n;b@b.test;\r\n"))
	if err != nil || len(rows) != 2 || rows[0].address.String() != "ana@b.test" || rows[0].covered || rows[0].name != "Ana" || !rows[1].covered {
		t.Errorf("got %+v, %v", rows, err)
	}
	_, err = parseImport(strings.NewReader(strings.Repeat("nonsense\n", 60)))
	if err == nil || strings.Count(err.Error(), "\n") != maxImportShown || !strings.HasSuffix(err.Error(), "and 10 more") {
		t.Errorf("got %v", err)
	}
}

// FuzzParseImport: whatever the file, rows are canonical, unique and in the
// order of their lines, and an error names a reason.
func FuzzParseImport(f *testing.F) {
	for _, s := range []string{"address,name,password,covered\nana@b.test,Ana,correct horse,yes\n", "a@b.test;x\n", "\"a@b.test\",\"x\ny\"\n", "a@b.test\na@b.test\n",
		"covered;address\nno;d@b.test", "\xef\xbb\xbfaddress\n", "\"\"\n", ",,,\n", "a@b.test,\"\"\"\"", "\r\n\r\na@b.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		rows, err := parseImport(strings.NewReader(in))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if len(rows) == 0 {
			t.Error("neither rows nor an error")
		}
		seen, line := map[string]bool{}, 0
		for _, r := range rows {
			a := r.address.String()
			if seen[a] || r.address.IsZero() || r.address.Detail != "" || r.line <= line {
				t.Errorf("row %+v", r)
			}
			seen[a], line = true, r.line
		}
	})
}
