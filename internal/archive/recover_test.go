package archive

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// leaveOpen puts a segment into an archive as a dead process leaves it.
func leaveOpen(t *testing.T, dir, name string, content, mark []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, openDir), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(openPath(dir, name), content, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(markPath(dir, name), mark, 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestRecoversByItsMark: damage to committed records is kept, for repair; a
// mark that is torn, or of more than there is, is no reason to keep anything.
func TestRecoversByItsMark(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	size, last := int64(len(content)), want[2].Ref
	broken := append([]byte{}, content...)
	broken[last.Offset+headerSize+5] ^= 1
	torn := marshalMark(size)
	torn[markSize-1] ^= 1
	for about, c := range map[string]struct {
		content, mark []byte
		size          int64
	}{
		"damage to what is committed": {broken, marshalMark(size), size},
		"damage behind it":            {broken, marshalMark(last.Offset), last.Offset},
		"torn mark":                   {broken, torn, last.Offset},
		"mark too high":               {broken, marshalMark(size + 1), last.Offset},
		"whole, not committed":        {content, marshalMark(want[0].Ref.Length), size},
		"cut and synced":              {append(broken, 1, 2, 3), marshalMark(size), size},
	} {
		dir := t.TempDir()
		leaveOpen(t, dir, name, c.content, c.mark)
		openTest(t, dir, Options{})
		info, err := os.Stat(sealedPath(dir, name))
		if err != nil || info.Size() != c.size {
			t.Errorf("%s: sealed as %v, %v, want %d bytes", about, info, err, c.size)
		}
		if durable, _ := syncedAs.Load(openPath(dir, name)); durable != c.size {
			t.Errorf("%s: sealed with %v bytes synced, want %d", about, durable, c.size)
		}
	}
}

// TestReadsUpToItsMark: a torn one commits nothing.
func TestReadsUpToItsMark(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	good := marshalMark(want[1].Ref.Offset)
	for n := range markSize + 1 {
		dir := t.TempDir()
		mark := append([]byte{}, good...)
		records := 1
		if n < markSize {
			mark[n] ^= 0x40
			records = 0
		}
		leaveOpen(t, dir, name, content, mark)
		if got, damaged := readSegment(t, dir, name); len(got) != records || damaged != 0 {
			t.Errorf("byte %d of the mark is wrong: %d records, %d bytes damaged", n, len(got), damaged)
		}
	}
}

// TestRecoveryOfAGoneSegment: its writer removes an empty one without asking.
func TestRecoveryOfAGoneSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name, content, _ := smallSegment(t, 1)
	leaveOpen(t, dir, name, content, nil)
	if err := removeOpen(dir, name); err != nil {
		t.Fatal(err)
	}
	if done, err := recoverSegment(dir, name, slog.New(slog.DiscardHandler)); done || err != nil {
		t.Errorf("a segment that went since it was listed: %v, %v", done, err)
	}
}

// TestStockToolsWhileWriting: of a segment whose last record is half written,
// stock tools list what is committed.
func TestStockToolsWhileWriting(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	last := want[2].Ref
	for cut := last.Offset + 1; cut < int64(len(content)); cut += 17 {
		dir := t.TempDir()
		leaveOpen(t, dir, name, content[:cut], marshalMark(last.Offset))
		list := shell(t, `cd "$0" && head -c $(od -An -tu8 -N8 ".$1.committed") "$1" | zstd -dc | tar -t --warning=no-unknown-keyword`, filepath.Join(dir, openDir), name)
		if list != want[0].Envelope.ID.String()+".eml\n"+want[1].Envelope.ID.String()+".eml\n" {
			t.Fatalf("cut at %d: %q", cut, list)
		}
		all := exec.Command("bash", "-c", `zstd -dc "$0" 2>/dev/null | tar -t --warning=no-unknown-keyword`, openPath(dir, name))
		if out, err := all.Output(); err != nil || string(out) != list {
			t.Fatalf("cut at %d: without its mark %q, %v", cut, out, err)
		}
	}
}
