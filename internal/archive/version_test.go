package archive

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewerVersion: a record that a later program wrote is told by its
// version, costs no other record, and is not cut by recovery.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	content = newerRecord(content, want[2].Ref)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, openDir), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(openPath(dir, name), content, 0o640); err != nil {
		t.Fatal(err)
	}
	openTest(t, dir, Options{})
	if info, err := os.Stat(sealedPath(dir, name)); err != nil || info.Size() != int64(len(content)) {
		t.Fatalf("recovered as %v, %v: want all %d bytes", info, err, len(content))
	}
	got, damaged := readSegment(t, dir, name)
	if len(got) != 2 || damaged != want[2].Ref.Length {
		t.Errorf("%d records, %d damaged bytes, want 2 and %d", len(got), damaged, want[2].Ref.Length)
	}
	r, err := OpenSegment(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for err == nil {
		_, err = r.Next()
	}
	if r.Newer() != formatVersion+1 {
		t.Errorf("the newest version met is %d", r.Newer())
	}
	_, err = ReadRecord(dir, want[2].Ref)
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "format version 3; this program reads versions up to 2: update it") {
		t.Errorf("ReadRecord says %v", err)
	}
	if _, err := ReadRecord(dir, want[1].Ref); err != nil {
		t.Error(err)
	}
}
