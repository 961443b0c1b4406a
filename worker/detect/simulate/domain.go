package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"understudy/internal/directory"
	doubt "understudy/policyd/outcome"
	"understudy/worker/detect"
)

// As the worker's defaults.
var (
	settings = detect.Settings{Activation: directory.Automatic, Failures: 3, Storm: 6,
		RecoverAfter: 2 * time.Minute, RecoverMax: 30 * time.Minute, FlapWindow: time.Hour}
	vantage = detect.VantageSettings{Share: .5, MinDomains: 3, SecondLook: 30 * time.Second}
)

const (
	interval = 10 * time.Second
	fast     = time.Second
	evidence = 30 * time.Second // as the monitor's oldEvidence
	before   = 30 * time.Second // and its acceptedBefore
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// outcome is what became of one incident.
type outcome struct {
	kind      int
	lasted    time.Duration
	switched  time.Duration // from its start; -1: never
	back      time.Duration // from its end to normal mode, if it was switched
	switches  int
	early     int // returns while it went on
	messages  int // taken meanwhile
	bounced   int
	delay     time.Duration
	worst     time.Duration
	tooLittle bool // fewer messages than a storm needs
	tooSoon   int  // switches that the damping forbids: must be none
}

// domain is one domain's life.
type domain struct {
	rnd   *rand.Rand
	mean  time.Duration // between messages
	near  time.Duration // between those of other domains on the same host
	state detect.State
	view  detect.Vantage

	now, probe time.Duration // the moment, and when the next probe begins
	last       time.Duration // when the last one ended
	in         *incident
	out        *outcome
	results    map[detect.Class]int
	taken      []time.Duration // when messages came in, newest last
	theirs     []time.Duration // the same of other domains on the host
	waiting    []time.Duration // softened: when they came in
	retry      time.Duration
	grey       bool // the greylist has seen our probe
	doubts     *doubt.Doubts
	began      time.Duration
}

func at(d time.Duration) time.Time { return epoch.Add(d) }

// live plays all incidents of a domain; between them nothing happens that
// the detector could see.
func live(rnd *rand.Rand, incidents []incident) []outcome {
	d := &domain{rnd: rnd, mean: between(rnd, 20*time.Second, time.Hour), near: between(rnd, 5*time.Second, 10*time.Minute),
		state: detect.Resume(&directory.Domain{Mode: directory.Normal, ModeSince: epoch.Add(-time.Hour)}, nil, settings)}
	slices.SortFunc(incidents, func(a, b incident) int { return int(a.start - b.start) })
	var out []outcome
	for i := range incidents {
		out = append(out, d.play(&incidents[i]))
	}
	return out
}

func (d *domain) play(in *incident) outcome {
	k := &kinds[in.kind]
	o := outcome{kind: in.kind, lasted: in.end - in.start, switched: -1}
	d.in, d.out, d.grey, d.doubts = in, &o, false, &doubt.Doubts{}
	d.results, d.taken, d.theirs, d.waiting = map[detect.Class]int{}, nil, nil, nil
	d.now = in.start
	d.last = in.start - time.Duration(d.rnd.Int64N(int64(interval)))
	d.probe = d.last + interval
	mail := in.start + wait(d.rnd, d.mean)
	theirs := d.neighbour(k, in.start)
	for {
		switch next := min(d.probe, mail, theirs, d.retryAt()); {
		case next == mail:
			d.now = mail
			d.message(k)
			mail += wait(d.rnd, d.mean)
		case next == theirs:
			d.now = theirs
			d.notOurs(k)
			theirs = d.neighbour(k, theirs)
		case next == d.probe:
			d.now = d.probe
			d.round(k)
		default:
			d.now = next
			d.tryAgain(k)
		}
		if d.now > in.end && d.settled() {
			break
		}
	}
	o.tooLittle = o.messages < settings.Storm
	return o
}

// settled reports that nothing of the incident is left.
func (d *domain) settled() bool {
	return d.state.Mode == directory.Normal && d.state.Failures == 0 && len(d.waiting) == 0 &&
		!d.state.Storm.Fresh(at(d.now)) && len(d.results) == 0 && d.view.Allows()
}

const never time.Duration = 1 << 62

func (d *domain) retryAt() time.Duration {
	if len(d.waiting) == 0 {
		return never
	}
	return d.retry
}

// neighbour is when the next message for another domain on the host comes.
func (d *domain) neighbour(k *kind, after time.Duration) time.Duration {
	if at := after + wait(d.rnd, d.near); k.near > 0 && at < d.in.end+nearAfter {
		return at
	}
	return never
}
