package archive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	key := strangerKey(t)
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path, wrong string
		keys        int
	}{
		{"", "", 0},
		{write(key.String()+"\n", 0o640), "", 1},
		{write("# two\n"+key.String()+"\n\n"+strangerKey(t).String()+"\n", 0o400), "", 2},
		{write(key.String(), 0o644), "everybody may use the file (mode 0644)", 0},
		{write("AGE-SECRET-KEY-1SECRET", 0o600), "not as age-keygen makes them", 0},
		{write("", 0o600), "not as age-keygen makes them", 0},
		{filepath.Join(t.TempDir(), "gone"), "no such file", 0},
	} {
		keys, err := LoadIdentities(c.path)
		if len(keys) != c.keys || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%d keys, %v; want %d and %q", len(keys), err, c.keys, c.wrong)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET-KEY-1SECRET") {
			t.Error("an error tells a key")
		}
	}
	public := key.Recipient().String()
	for list, wrong := range map[string]string{"": "", public: "", public + " " + public: "", public + " nothing": "number 2", key.String(): "number 1"} {
		got, err := ParseRecipients(strings.Fields(list))
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) || err == nil && len(got) != len(strings.Fields(list)) {
			t.Errorf("%q: %d, %v", list, len(got), err)
		}
		if strings.Contains(fmt.Sprint(err), "SECRET") {
			t.Error("an error tells a key")
		}
	}
}
