package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "make testdata anew")

// vector is testdata/NAME/records.json: what a reader finds in the segment
// beside it. Texts are in the escaped form of docs/archive-format.md.
type vector struct {
	About   string         `json:"about"`
	Segment string         `json:"segment"`
	Damaged int64          `json:"damaged_bytes"`
	Newer   uint16         `json:"newer_version,omitempty"`
	Records []vectorRecord `json:"records"`
	NoKey   []vectorPlace  `json:"no_key,omitempty"`
}

// vectorPlace is a whole record that testdata/identity.txt does not decrypt.
type vectorPlace struct {
	Offset int64     `json:"offset"`
	Length int64     `json:"length"`
	ID     uuid.UUID `json:"id"`
}

type vectorRecord struct {
	Offset     int64     `json:"offset"`
	Length     int64     `json:"length"`
	ID         uuid.UUID `json:"id"`
	Received   time.Time `json:"received"`
	Direction  string    `json:"direction"`
	Sender     string    `json:"sender"`
	Recipients []string  `json:"recipients"`
	Mailboxes  []string  `json:"mailboxes"`
	Client     string    `json:"client"`
	Helo       string    `json:"helo"`
	SASLUser   string    `json:"sasl_user"`
	QueueID    string    `json:"queue_id"`
	Route      []string  `json:"route,omitempty"`
	Encrypted  bool      `json:"encrypted,omitempty"`
	Size       int64     `json:"size"`
	SHA256     string    `json:"sha256"` // of the message
}

func vectorOf(s readBack) vectorRecord {
	each := func(list []string) []string {
		out := []string{}
		for _, t := range list {
			out = append(out, escape(t))
		}
		return out
	}
	e, sum := s.Envelope, sha256.Sum256([]byte(s.Body))
	return vectorRecord{Offset: s.Ref.Offset, Length: s.Ref.Length, ID: e.ID, Received: e.Received, Direction: string(e.Direction),
		Sender: escape(e.Sender), Recipients: each(e.Recipients), Mailboxes: each(e.Mailboxes), Client: escape(e.Client), Helo: escape(e.Helo),
		SASLUser: escape(e.SASLUser), QueueID: escape(e.QueueID), Route: e.Route, Size: int64(len(s.Body)), SHA256: hex.EncodeToString(sum[:])}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	if *update {
		makeVectors(t)
	}
	files, err := filepath.Glob("testdata/*/records.json")
	if err != nil || len(files) < 13 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			t.Parallel()
			var want vector
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(filepath.Dir(file), want.Segment)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			place(t, dir, want.Segment, content)
			if diff := cmp.Diff(want, readVector(t, dir, want.About, want.Segment)); diff != "" {
				t.Error(diff)
			}
			withStockTools(t, path, want)
		})
	}
}

func readVector(t *testing.T, dir, about, name string) vector {
	t.Helper()
	v := vector{About: about, Segment: name, Records: []vectorRecord{}}
	content, err := os.ReadFile(sealedPath(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenSegment(dir, name, testKeys(t)...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		rec, err := r.Next()
		var no *EncryptedError
		switch {
		case err == io.EOF:
			v.Damaged, v.Newer = r.Damaged(), r.Newer()
			return v
		case errors.As(err, &no):
			v.NoKey = append(v.NoKey, vectorPlace{no.Ref.Offset, no.Ref.Length, no.ID})
			continue
		case err != nil:
			t.Fatal(err)
		}
		body, err := io.ReadAll(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		one := vectorOf(readBack{rec.Envelope, rec.Ref, string(body)})
		one.Encrypted = content[rec.Offset+14] == versionEncrypted
		v.Records = append(v.Records, one)
	}
}

// withStockTools reads each record with tail, head, zstd, tar and sha256sum.
func withStockTools(t *testing.T, path string, v vector) {
	t.Helper()
	for _, r := range v.Records {
		script, begin, length := `tail -c "+$1" "$0" | head -c "$2" | zstd -dcq | tar -xO --warning=no-unknown-keyword "$3.eml" | sha256sum`, r.Offset, r.Length
		if r.Encrypted {
			script = strings.Replace(script, "zstd", "age -d -i testdata/identity.txt | zstd", 1)
			begin, length = begin+headerSize+wrapSize, length-headerSize-wrapSize
		}
		out := shell(t, script, path, fmt.Sprint(begin+1), fmt.Sprint(length), r.ID.String())
		if sum, _, _ := strings.Cut(out, " "); sum != r.SHA256 {
			t.Errorf("record at %d: stock tools read %s", r.Offset, sum)
		}
	}
	if v.Damaged > 0 || len(v.Records) == 0 {
		return
	}
	clear := slices.DeleteFunc(slices.Clone(v.Records), func(r vectorRecord) bool { return r.Encrypted })
	list := shell(t, `zstd -dcq "$0" | tar -t --warning=no-unknown-keyword`, path)
	for _, r := range clear {
		if !strings.Contains(list, r.ID.String()+".eml\n") {
			t.Errorf("tar does not list %s", r.ID)
		}
	}
	if n := strings.Count(list, "\n"); n != len(clear) {
		t.Errorf("tar lists %d entries, want %d", n, len(clear))
	}
}

// makeVectors writes testdata anew.
func makeVectors(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	w := openTest(t, dir, Options{now: func() time.Time { return at }})
	var refs []Ref
	body := strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 40)
	for i, m := range []string{"Subject: one\r\n\r\n" + body, "", "Subject: three, 8 bit \xe9, NUL \x00, no end", "Subject: four\r\n\r\n" + body} {
		e := &Envelope{ID: uuid.MustParse(fmt.Sprintf("019cbd1e-0000-7000-8000-%012d", i+1)), Received: at.Add(time.Duration(i) * 1234567 * time.Microsecond),
			Direction: []Direction{Inbound, Outbound, Internal, Inbound}[i], Sender: []string{"a@example.org", "", "b\xe9@example.org", "\U0010FF41@example.org"}[i],
			Recipients: []string{"Ana@example.test", "ana@example.test", "\"x,y\"@example.test"}[:i%3+1], Mailboxes: []string{"ana@example.test"},
			Client: "2001:db8::1", Helo: "mx.example.org", QueueID: "4ZzzQQ0x1yzV"}
		refs = append(refs, appendTest(t, w, e, []byte(m)))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := refs[0].Segment
	good, err := os.ReadFile(sealedPath(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseName(name)
	if err != nil {
		t.Fatal(err)
	}
	two, three := refs[1].Offset, refs[2].Offset
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	insert := func(at int64, more []byte) []byte {
		return append(append(bytes.Clone(good[:at]), more...), good[at:]...)
	}
	flip := func(at int64) []byte { return change(func(b []byte) []byte { b[at] ^= 0x10; return b }) }
	for about, c := range map[string][]byte{
		"normal|four records":                                                                                                good,
		"truncated|cut within the fourth record":                                                                             good[:len(good)-10],
		"truncated-header|cut within the header of the fourth record":                                                        good[:refs[3].Offset+40],
		"flipped-payload|a bit of the second record's payload flipped":                                                       flip(two + headerSize + 20),
		"flipped-header|a bit of the third record's header flipped":                                                          flip(three + 30),
		"flipped-magic|a bit of the first record's magic flipped":                                                            flip(1),
		"inserted|1,000 foreign bytes within the second record":                                                              insert(two+100, bytes.Repeat([]byte("garbage. "), 112)[:1000]),
		"between|50 foreign bytes between the second and the third":                                                          insert(three, bytes.Repeat([]byte("x"), 50)),
		"zeroed|300 bytes across the first two records are zero":                                                             change(func(b []byte) []byte { clear(b[two-100 : two+200]); return b }),
		"newer-version|the second record is of format version 3":                                                             newerRecord(good, refs[1]),
		"two-frames|the fifth record's payload is two zstd frames":                                                           append(bytes.Clone(good), twoFrames(t, n)...),
		"encrypted|two records in the clear, one encrypted, one in the clear, one encrypted for an identity that nobody has": append(bytes.Clone(good[:three]), encryptedRecords(t, n, good[three:refs[3].Offset])...),
		"other-segment|a record of another segment between the others":                                                       insert(three, foreignRecord(t)),
	} {
		short, text, _ := strings.Cut(about, "|")
		saveVector(t, short, text, name, c)
	}
}

func saveVector(t *testing.T, short, about, name string, content []byte) {
	t.Helper()
	to := filepath.Join("testdata", short)
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, name), content, 0o644)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	place(t, dir, name, content)
	text, err := json.MarshalIndent(readVector(t, dir, about, name), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "records.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
