package policy

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"understudy/policyd/policytest"
)

// BenchmarkRecipient reads and answers requests about a hundred thousand
// mailboxes.
func BenchmarkRecipient(b *testing.B) {
	domain := policytest.Example().With(emergency)
	for i := range 100_000 {
		domain.Covered = append(domain.Covered, fmt.Sprintf("user%d", i))
	}
	dir := policytest.Directory(domain)
	wires := make([]string, 1000)
	for i := range wires {
		wires[i] = policytest.NewRequest().Recipient(fmt.Sprintf("User%d+x@Example.test", 97*i)).String()
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		in := bufio.NewReaderSize(nil, maxLineBytes)
		for i := 0; pb.Next(); i++ {
			in.Reset(strings.NewReader(wires[i%len(wires)]))
			req, err := Read(in)
			if d := Decide(req, dir, never); err != nil || d.Label != "dunno" {
				b.Errorf("%s: %+v, %v", req.Recipient, d, err)
			}
		}
	})
}
