package archive

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestEntryHead: the head of an entry is what archive/tar writes.
func TestEntryHead(t *testing.T) {
	t.Parallel()
	for _, e := range []*Envelope{
		testEnvelope(1),
		{Direction: Outbound},
		{Direction: Internal, Sender: "\xff", Recipients: []string{"", "a\"b", "é@x", "\u2028", "<&>", "a\\b\x01"}, Mailboxes: []string{}, Route: Routes},
		{Direction: Inbound, Sender: strings.Repeat("s", 61), Helo: strings.Repeat("h", 62), Client: strings.Repeat("c", 63), QueueID: strings.Repeat("q", 900)},
		{Direction: Inbound, Recipients: []string{strings.Repeat("x", 200_000)}, SASLUser: "line\nbreak"},
	} {
		e.ID, e.Received = uuid.Must(uuid.NewV7()), time.Date(2199, 12, 31, 23, 59, 59, 123456000, time.UTC)
		for n := range 130 { // over every length that the records' own numbers and the blocks can have
			e.Helo += "h"
			size := int64(n) * 8_259_553
			h, err := TarHeader(e, size)
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			if err := tar.NewWriter(&want).WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			got, err := entryHead(nil, e, size)
			if err != nil || !bytes.Equal(want.Bytes(), got) {
				t.Fatalf("%d bytes: %v\n%q\nwant\n%q", size, err, got, want.Bytes())
			}
		}
	}
}
