package main

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/internal/bench"
	"understudy/internal/stack"
)

var repo, bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if repo, err = filepath.Abs("../../.."); err != nil {
			panic(err)
		}
		dir, err := os.MkdirTemp("", "bench-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "bin")
		return m.Run()
	}())
}

// TestSmall runs every benchmark once, small, on real servers: each comes to
// its end and reports figures. What they are means nothing.
func TestSmall(t *testing.T) {
	if err := stack.Build(t.Context(), repo, bin, nil); err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			report, err := bench.Run(t.Context(), bench.Options{Short: true, Messages: 1000, Repo: repo, Bin: bin, Progress: t.Output()}, []bench.Bench{b})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Failures {
				t.Errorf("%s: %s", f.Bench, f.Error)
			}
			if len(report.Results) == 0 {
				t.Error("no figures")
			}
			for _, r := range report.Results {
				if r.Bench != b.Name && r.Case == "" || r.Metric == "" || r.Value < 0 {
					t.Errorf("not a figure: %+v", r)
				}
			}
			report.WriteTable(t.Output())
		})
	}
}
