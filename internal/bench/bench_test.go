package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestRunReports(t *testing.T) {
	t.Parallel()
	all := []Bench{
		{"good", func(_ context.Context, e *Env) error {
			if err := os.WriteFile(e.Dir+"/file", nil, 0o600); err != nil {
				return err
			}
			e.Report.Add(e.Result("5 KB", "ratio", 0.85, "").AtLeast(0.8))
			e.Report.Add(e.Result("5 KB", "time", 1.5, "s").AtMost(1))
			e.Report.Add(e.Result("5 KB", "speed", 12345, "messages/s"))
			return nil
		}},
		{"bad", func(context.Context, *Env) error { return errors.New("no server") }},
		{"other", func(context.Context, *Env) error { return errors.New("was to be left out") }},
	}
	dir := t.TempDir()
	r, err := Run(t.Context(), Options{Only: regexp.MustCompile("good|bad"), Dir: dir, Progress: io.Discard}, all)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
	var table, text bytes.Buffer
	r.WriteTable(&table)
	for _, want := range []string{"0.850", ">= 0.8", "met", "1.50 s", "<= 1", "MISSED", "12345 messages/s", "FAILED  bad: no server", "1 goals met, 1 missed, 1 benchmarks failed"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
	if err := r.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || len(back.Results) != 3 || len(back.Failures) != 1 || *back.Results[1].Met {
		t.Errorf("%v in\n%s", err, &text)
	}
	if _, err := Run(t.Context(), Options{Only: regexp.MustCompile("nothing"), Dir: dir, Progress: io.Discard}, all); err == nil {
		t.Error("a name that no benchmark has is accepted")
	}
}

func TestReadResults(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		`{"bench":"append","case":"5 KB","metric":"ratio","value":0.83,"unit":"","goal":">= 0.8","met":true}` + "\n" +
			`{"bench":"append","case":"5 KB","metric":"speed","value":99,"unit":"MB/s"}` + "\n": true,
		``: false,
		`{"bench":"append","case":"","metric":"ratio","value":1,"unit":"","goal":">= 0.8"}`: false, // met or not?
		`{"value":1}`:        false,
		`{"bench":"a"`:       false,
		"0.83 of the loop\n": false,
	} {
		r := NewReport(false)
		if err := r.ReadResults(strings.NewReader(text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMedianAndPercentile(t *testing.T) {
	t.Parallel()
	if m := Median([]float64{9, 1, 4}); m != 4 {
		t.Error(m)
	}
	if m := Median([]float64{4, 1}); m != 2.5 {
		t.Error(m)
	}
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i))
	}
	for p, want := range map[int]time.Duration{50: 100, 95: 190, 99: 198, 100: 200} {
		if got := Percentile(d, p); got != want {
			t.Errorf("p%d of 1..200 is %d, want %d", p, got, want)
		}
	}
	if got := Percentile(d[:1], 50); got != 200 {
		t.Error(got)
	}
}
