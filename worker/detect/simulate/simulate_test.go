package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSimulation: what the detector promises, over many lives.
func TestSimulation(t *testing.T) {
	t.Parallel()
	c := config{domains: 150, days: 30, seed: 7}
	sums := run(c)
	for i, s := range sums {
		k := kinds[i]
		if s.tooSoon > 0 {
			t.Errorf("%s: %d switches faster than the damping allows", k.name, s.tooSoon)
		}
		switch {
		case s.incidents == 0:
			t.Errorf("%s: never happened", k.name)
		case k.server && k.plain.Down() && (s.late > 0 || s.missed > 0 || s.switched < s.incidents):
			t.Errorf("%s: %d incidents, %d switched, %d late, %d missed", k.name, s.incidents, s.switched, s.late, s.missed)
		case !k.server && s.switches > 0 && k.name != "spam refused without a reason":
			t.Errorf("%s: %d false switches", k.name, s.switches)
		case !k.server && s.switches > s.incidents/20:
			t.Errorf("%s: %d false switches in %d incidents", k.name, s.switches, s.incidents)
		case k.server && k.near > 0: // neighbours' refusals do not keep a domain in emergency
			slices.Sort(s.back)
			if most := s.back[len(s.back)*9/10]; most > settings.RecoverAfter+time.Minute {
				t.Errorf("%s: a tenth is back only after %v and more", k.name, most)
			}
		}
	}
	var a, b bytes.Buffer
	write(&a, c, sums)
	write(&b, c, run(c))
	if a.String() != b.String() {
		t.Error("the same seed gives another report")
	}
}

// TestReport: the committed report has the rows and the shape that this
// program writes; its figures are of the full size.
func TestReport(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/detection-simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "10000 domains over 30 days, seed 1.") {
		t.Error("the report is not of the full size")
	}
	for _, k := range kinds {
		if !strings.Contains(string(text), "\n| "+k.name+" | ") {
			t.Errorf("the report has no row %q: go run ./worker/detect/simulate", k.name)
		}
	}
}
