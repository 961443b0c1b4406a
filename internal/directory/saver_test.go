package directory

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestLinesHoldEverything: a kind of row that lines or join forgets would be
// missing after a restart without PostgreSQL.
func TestLinesHoldEverything(t *testing.T) {
	t.Parallel()
	c := &Change{Full: true, Epoch: "e", Mark: "m", Version: 7}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice {
			rows := reflect.MakeSlice(f.Type(), 2*rowsPerLine+1, 2*rowsPerLine+1)
			for j := range rows.Len() {
				row := rows.Index(j)
				if row.Kind() == reflect.Pointer {
					row.Set(reflect.New(row.Type().Elem()))
					row = row.Elem()
				}
				row.FieldByName("ID").SetInt(int64(j + 1))
			}
			f.Set(rows)
		}
	}
	lines := c.lines()
	if len(lines) < 3*(v.NumField()-5) {
		t.Errorf("%d lines", len(lines))
	}
	if diff := cmp.Diff(c, join(lines), cmpopts.EquateComparable()); diff != "" {
		t.Error(diff)
	}
}

// world is a directory with a file, kept by a saver.
type world struct {
	t *testing.T
	d *Directory
	s *saver
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, d: New()}
	w.s = &saver{dir: w.d, path: filepath.Join(t.TempDir(), "directory.json")}
	w.change(&Change{Full: true, Domains: []*Domain{{ID: 1, Name: "example.test"}},
		Mailboxes: []*Mailbox{{ID: 1, DomainID: 1, Address: "ana@example.test"}, {ID: 2, DomainID: 1, Address: "bruno@example.test"}}})
	w.finish()
	return w
}

func (w *world) change(c *Change) {
	w.t.Helper()
	c.Epoch, c.Version = "e", w.d.Version()+1
	w.d.Apply(c)
	w.s.add(c)
}

func (w *world) finish() {
	w.t.Helper()
	if err := w.s.finish(); err != nil || w.s.unsaved() {
		w.t.Fatal(err, w.s.unsaved())
	}
}

// file returns the file's lines.
func (w *world) file() []string {
	w.t.Helper()
	text, err := os.ReadFile(w.s.path)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
}

// loads compares what the file gives with addresses.
func (w *world) loads(addresses ...string) {
	w.t.Helper()
	d := New()
	if err := d.Load(w.s.path); err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, m := range d.Mailboxes(1) {
		got = append(got, m.Address)
	}
	if diff := cmp.Diff(addresses, got); diff != "" {
		w.t.Error(diff)
	}
}

func TestChangesAreAdded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := len(w.file())
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 3, DomainID: 1, Address: "carla@example.test"}}})
	w.change(&Change{Deleted: []Deleted{{Kind: "mailbox", ID: 1}}})
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 2, DomainID: 1, Address: "b@example.test"}}})
	w.finish()
	if got := len(w.file()); got != before+3 {
		t.Errorf("%d lines, had %d", got, before)
	}
	w.loads("b@example.test", "carla@example.test")

	// The last change is torn by a crash at any place: what came before it counts.
	text := strings.Join(w.file(), "")
	last := strings.LastIndexByte(text, '\n') + 1
	for cut := last; cut < len(text); cut++ {
		if err := os.WriteFile(w.s.path, []byte(text[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		w.loads("bruno@example.test", "carla@example.test")
	}
	// The next process does not add to what may be torn.
	w.s = &saver{dir: w.d, path: w.s.path}
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 4, DomainID: 1, Address: "dora@example.test"}}})
	w.finish()
	if got := len(w.file()); got != before {
		t.Errorf("%d lines in a file written anew, first %d", got, before)
	}
	w.loads("b@example.test", "carla@example.test", "dora@example.test")
}

func TestDamagedChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"carla@example.test", "dora@example.test"} {
		w.change(&Change{Mailboxes: []*Mailbox{{ID: w.d.Version() + 9, DomainID: 1, Address: name}}})
	}
	w.finish()
	text, err := os.ReadFile(w.s.path)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"address":"carla`), []byte(`"address"::carla`), 1)
	if err := os.WriteFile(w.s.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := Open(w.s.path, slog.New(slog.NewTextHandler(&log, nil)))
	if text := log.String(); !strings.Contains(text, "version=1 ") || !strings.Contains(text, "after version 1") || strings.Contains(text, "unusable;") {
		t.Errorf("log: %s", text)
	}
	if len(d.Mailboxes(1)) != 2 || !d.Loaded() || d.Version() != 1 {
		t.Errorf("%d mailboxes, version %d", len(d.Mailboxes(1)), d.Version())
	}
}

func TestUnusableFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "directory.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if d := Open(path, slog.New(slog.NewTextHandler(&log, nil))); d.Loaded() || !strings.Contains(log.String(), "unusable; all mail and logins wait") {
		t.Errorf("loaded %v, log: %s", d.Loaded(), log.String())
	}
}

// TestGrownFile: changes do not pile up for ever.
func TestGrownFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := len(w.file())
	w.s.grown = smallFile + 1
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 3, DomainID: 1, Address: "carla@example.test"}}})
	w.finish()
	if got := len(w.file()); got != before || w.s.grown != 0 {
		t.Errorf("%d lines, had %d; grown %d", got, before, w.s.grown)
	}
	w.loads("ana@example.test", "bruno@example.test", "carla@example.test")
}

// TestSaveTrouble: what could not be written is written as soon as it can be.
func TestSaveTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := filepath.Dir(w.s.path) + "-away"
	if err := os.Rename(filepath.Dir(w.s.path), away); err != nil {
		t.Fatal(err)
	}
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 3, DomainID: 1, Address: "carla@example.test"}}})
	for range 2 { // adding, and writing anew
		if err := w.s.finish(); err == nil || !w.s.unsaved() {
			t.Fatal(err, w.s.unsaved())
		}
	}
	if left, err := filepath.Glob(filepath.Join(away, ".directory-*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
	if err := os.Rename(away, filepath.Dir(w.s.path)); err != nil {
		t.Fatal(err)
	}
	w.s.last = time.Time{}
	if err := w.s.save(); err != nil {
		t.Fatal(err)
	}
	w.finish()
	w.loads("ana@example.test", "bruno@example.test", "carla@example.test")
}

// TestSaveDoesNotWait: a large file is written beside the follower's work, and
// changes meanwhile are not lost.
func TestSaveDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	held := make(chan written, 1)
	w.s.writing = held
	w.change(&Change{Mailboxes: []*Mailbox{{ID: 3, DomainID: 1, Address: "carla@example.test"}}})
	w.s.last = time.Time{}
	if err := w.s.save(); err != nil || !w.s.unsaved() {
		t.Fatal(err)
	}
	w.loads("ana@example.test", "bruno@example.test")
	held <- written{size: w.s.size}
	w.finish()
	w.loads("ana@example.test", "bruno@example.test", "carla@example.test")
}
