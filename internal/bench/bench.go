// Package bench is what "make bench" is made of: the form in which every
// benchmark reports, the list of them, and the table and JSON that one run
// leaves. How each figure is measured is in docs/benchmarks.md.
//
// Machines are noisy: a benchmark compares two things in one run, takes turns
// between them and reports medians and ratios. Each starts the real servers
// that it needs; one that cannot is reported as failed and the others go on.
package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Result is one figure. Benchmark programs print it as one line of JSON.
type Result struct {
	Bench  string  `json:"bench"`          // which benchmark
	Case   string  `json:"case"`           // what was measured: "5 KB, 20 writers"
	Metric string  `json:"metric"`         // which figure: "ratio to bare loop"
	Value  float64 `json:"value"`          // in units of Unit
	Unit   string  `json:"unit"`           // "" for a ratio
	Goal   string  `json:"goal,omitempty"` // ">= 0.8"; empty: none
	Met    *bool   `json:"met,omitempty"`  // present with a goal
}

// AtLeast gives the figure a goal from below.
func (r Result) AtLeast(limit float64) Result {
	return r.goal(">=", limit, r.Value >= limit)
}

// AtMost gives the figure a goal from above.
func (r Result) AtMost(limit float64) Result {
	return r.goal("<=", limit, r.Value <= limit)
}

func (r Result) goal(sign string, limit float64, met bool) Result {
	r.Goal, r.Met = sign+" "+strconv.FormatFloat(limit, 'f', -1, 64), &met
	return r
}

// Failure is a benchmark that gave no figures, or not all.
type Failure struct {
	Bench string `json:"bench"`
	Error string `json:"error"`
}

// Report collects a run's figures. Its methods may be called from several
// goroutines.
type Report struct {
	Machine  Machine   `json:"machine"`
	Short    bool      `json:"short"` // small sizes: the figures mean nothing
	Results  []Result  `json:"results"`
	Failures []Failure `json:"failures"`

	mu sync.Mutex
}

// NewReport returns an empty report on this machine.
func NewReport(short bool) *Report {
	return &Report{Machine: thisMachine(), Short: short, Results: []Result{}, Failures: []Failure{}}
}

// Add adds a figure.
func (r *Report) Add(x Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Results = append(r.Results, x)
}

// Fail notes that a benchmark did not come to its end.
func (r *Report) Fail(bench string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failures = append(r.Failures, Failure{bench, err.Error()})
}

// ReadResults adds the figures that a benchmark program prints: JSON objects,
// one after another.
func (r *Report) ReadResults(from io.Reader) error {
	d := json.NewDecoder(from)
	for n := 0; ; n++ {
		var x Result
		err := d.Decode(&x)
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errors.New("the program printed no figures")
		}
		if err != nil {
			return fmt.Errorf("read the program's figures: %w", err)
		}
		if x.Bench == "" || x.Metric == "" || (x.Goal == "") != (x.Met == nil) {
			return fmt.Errorf("read the program's figures: %+v is none", x)
		}
		r.Add(x)
	}
}

// WriteJSON writes the whole report.
func (r *Report) WriteJSON(w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Median is the middle of the values, or the mean of the two in the middle.
// It panics without values.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Percentile is the smallest value that is not less than p percent of all.
// It panics without values.
func Percentile(values []time.Duration, p int) time.Duration {
	v := slices.Sorted(slices.Values(values))
	return v[max(0, (len(v)*p+99)/100-1)]
}
