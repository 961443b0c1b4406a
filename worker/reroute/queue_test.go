package reroute

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestCountQueue(t *testing.T) {
	t.Parallel()
	const one = `{"queue_name": "deferred", "queue_id": "4Q", "arrival_time": 1, "message_size": 2, "forced_expire": false, "sender": "s@example.test", ` +
		`"recipients": [{"address": "a@Example.Test", "delay_reason": "x {\"[ y"}, {"address": "b@other.test"}, {"address": "\"q@x\"@example.test"}, {"address": "local"}]}` + "\n"
	tests := []struct {
		name, in         string
		deferred, active int
		err              bool
	}{
		{"empty", "", 0, 0, false},
		{"two messages", one + one, 4, 0, false},
		{"active", strings.Replace(one, "deferred", "active", 1) + one, 2, 2, false},
		{"on hold", strings.Replace(one, "deferred", "hold", 1), 0, 0, false},
		{"unknown keys", `{"new": {"a": [1, {"b": null}]}, "queue_name": "deferred", "recipients": [{"x": [[]], "address": "a@example.test"}]}`, 1, 0, false},
		{"cut", one[:100], 0, 0, true},
		{"cut after a message", one + one[:len(one)-3], 0, 0, true},
		{"no object", `["x"]`, 0, 0, true},
		{"no JSON", "postqueue: warning: Mail system is down", 0, 0, true},
		{"odd recipients", `{"recipients": "x"}`, 0, 0, true},
	}
	for _, tt := range tests {
		counts, err := countQueue(strings.NewReader(tt.in), []string{domain})
		c := count{}
		if err == nil {
			c = *counts[domain]
		}
		if c.deferred != tt.deferred || c.active != tt.active || (err != nil) != tt.err {
			t.Errorf("%s: %+v, %v", tt.name, c, err)
		}
	}
}

// TestCountQueueOfMany: domains that share a listing share what is flushed by
// its id, too.
func TestCountQueueOfMany(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	for n := range 700 {
		fmt.Fprintf(&in, `{"queue_name": "deferred", "queue_id": "%dQ", "recipients": [{"address": "a@example.test"}, {"address": "b@EXAMPLE.test"}, {"address": "a@other.test"}]}`, n)
	}
	domains := []string{domain, "other.test"}
	got, err := countQueue(strings.NewReader(in.String()), domains)
	if err != nil || got[domain].deferred != 1400 || got["other.test"].deferred != 700 || len(got[domain].ids) != maxMissed || got[domain].ids[0] != "0Q" {
		t.Errorf("%v, %v", got, err)
	}
	for n := range 500 {
		domains = append(domains, fmt.Sprintf("d%d.test", n))
	}
	got, err = countQueue(strings.NewReader(in.String()), domains)
	if err != nil || len(got[domain].ids) != 1 || len(got["d1.test"].ids) != 0 {
		t.Errorf("of many: %d ids, %v", len(got[domain].ids), err)
	}
}

// TestCountQueueMemory: a message with 40,000 recipients, 10 MB of text. Not
// parallel: it looks at the memory of the process.
func TestCountQueueMemory(t *testing.T) {
	const n = 40_000
	r, w := io.Pipe()
	var before, most runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		fmt.Fprint(w, `{"queue_name": "deferred", "recipients": [{"address": "first@example.test"}`)
		line := []byte(strings.Repeat(`, {"address": "a@example.test", "delay_reason": "`+strings.Repeat("x", 200)+`"}`, n/10))
		for range 10 {
			w.Write(line) //nolint:errcheck // the reader shows it
			var now runtime.MemStats
			runtime.GC()
			if runtime.ReadMemStats(&now); now.HeapAlloc > most.HeapAlloc {
				most = now
			}
		}
		fmt.Fprint(w, "]}\n")
		w.Close()
	}()
	c, err := countQueue(r, []string{domain})
	if err != nil || c[domain].deferred != n+1 {
		t.Errorf("%v, %v", c[domain], err)
	}
	if most.HeapAlloc > before.HeapAlloc+5<<20 { // a tenth of the text is the test's own
		t.Errorf("heap grew from %d to %d bytes", before.HeapAlloc, most.HeapAlloc)
	}
}

func FuzzCountQueue(f *testing.F) {
	f.Add([]byte(`{"queue_name": "deferred", "recipients": [{"address": "a@example.test", "delay_reason": "x"}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		counts, err := countQueue(strings.NewReader(string(in)), []string{domain})
		if err != nil {
			return
		}
		c := counts[domain]
		if c.deferred < 0 || c.active < 0 || len(c.ids) > maxMissed {
			t.Errorf("%+v, %v", c, err)
		}
		if slices.ContainsFunc(c.ids, func(id string) bool { return strings.HasPrefix(id, "-") || strings.ContainsAny(id, " ./\x00") }) {
			t.Errorf("unsafe ids %q", c.ids)
		}
	})
}
