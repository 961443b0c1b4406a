package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
)

// Digest tells whether a row is as the record says that it is for, in little
// memory.
type Digest struct {
	Envelope  uint32 // when it came, from whom, for whom, which way, how large
	Mailboxes uint32 // who may see it
}

// WantedRow is what RecordRow says of a message that is in the index as its
// record has it. Of m the envelope is enough.
func WantedRow(m *IndexedMessage) (mailboxes int, d Digest) {
	row := IndexedMessage{Received: m.Received, Direction: m.Direction, Sender: clean(m.Sender), Recipients: cleanAll(m.Recipients), Size: m.Size}
	var boxes []string
	for _, v := range m.mailboxValues() {
		boxes = append(boxes, v[2].(string)+" "+v[3].(string))
	}
	return len(boxes), row.digest(boxes)
}

// digest is of m as the index has it; mailboxes are each followed by its domain.
func (m *IndexedMessage) digest(mailboxes []string) Digest {
	e := crc32.NewIEEE()
	number := func(n int64) { e.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) } //nolint:errcheck // never fails
	number(m.Received.UnixMicro())
	number(m.Size)
	for _, text := range append([]string{m.Direction, m.Sender}, m.Recipients...) {
		number(int64(len(text)))
		io.WriteString(e, text) //nolint:errcheck // never fails
	}
	boxes := crc32.NewIEEE()
	for _, box := range slices.Sorted(slices.Values(mailboxes)) {
		io.WriteString(boxes, box+"\x00") //nolint:errcheck // never fails
	}
	return Digest{e.Sum32(), boxes.Sum32()}
}
