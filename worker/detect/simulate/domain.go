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
	state detect.State
	view  detect.Vantage

	now, probe time.Duration // the moment, and when the next probe begins
	last       time.Duration // when the last one ended
	in         *incident
	out        *outcome
	results    map[detect.Class]int
	taken      []time.Duration // when messages came in, newest last
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
	d := &domain{rnd: rnd, mean: between(rnd, 20*time.Second, time.Hour),
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
	d.results, d.taken, d.waiting = map[detect.Class]int{}, nil, nil
	d.now = in.start
	d.last = in.start - time.Duration(d.rnd.Int64N(int64(interval)))
	d.probe = d.last + interval
	mail := in.start + wait(d.rnd, d.mean)
	for {
		switch next := min(d.probe, mail, d.retryAt()); {
		case next == mail:
			d.now = mail
			d.message(k)
			mail += wait(d.rnd, d.mean)
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

func (d *domain) retryAt() time.Duration {
	if len(d.waiting) == 0 {
		return 1 << 62
	}
	return d.retry
}

// message delivers one that comes in now.
func (d *domain) message(k *kind) {
	during := d.now < d.in.end
	if during {
		d.out.messages++
	}
	d.taken = append(d.taken, d.now)
	if d.state.Mode == directory.Emergency || !d.in.ill(d.now) {
		return // readable at once
	}
	r := fellBack
	if k.deliver != nil {
		r = k.deliver(d.rnd)
	}
	switch r {
	case fellBack:
		d.delayed(k.costs + attempt)
		d.met(detect.Fallback)
	case refused:
		d.refuse(d.now)
	}
}

// refuse is for a message that is refused without a reason, and came in at
// some time: policyd lets it wait, or bounce.
func (d *domain) refuse(since time.Duration) {
	d.met(detect.ServerReject)
	if !d.doubts.Soften("mx1", at(d.now)) {
		d.out.bounced++
		return
	}
	if len(d.waiting) == 0 {
		d.retry = d.now + retryEvery
	}
	d.waiting = append(d.waiting, since)
}

// met counts what a delivery met and asks for a probe at once.
func (d *domain) met(c detect.Class) {
	d.results[c]++
	d.probe = min(d.probe, max(d.now, d.last+fast))
}

func (d *domain) delayed(by time.Duration) {
	d.out.delay += by
	d.out.worst = max(d.out.worst, by)
}

// tryAgain is Postfix's next attempt for what waits.
func (d *domain) tryAgain(k *kind) {
	again := d.waiting
	d.waiting = nil
	for _, since := range again {
		if d.in.ill(d.now) && k.deliver(d.rnd) == refused {
			d.refuse(since)
		} else {
			d.delayed(d.now - since)
		}
	}
}

func (d *domain) release(after time.Duration) {
	for _, since := range d.waiting {
		d.delayed(d.now - since + after)
	}
	d.waiting = nil
}

// look is one probe of every primary.
func (d *domain) look(k *kind) []detect.Host {
	h := detect.Host{Host: "mx1.example.test:25", Class: detect.Healthy}
	if d.state.Storm.Fresh(at(d.now)) || d.state.Hidden {
		h.Recipients = 2
	}
	if d.in.ill(d.now) {
		h.Class = k.plain
		if k.plain == detect.Healthy && h.Recipients > 0 {
			h.Class = k.named
			if k.name == "greylisting" && d.grey {
				h.Class = detect.Healthy // it lets through what it knows
			}
			d.grey = true
		}
	}
	if h.Class.Down() && k.plain != detect.Healthy {
		h.Recipients = 0
	}
	if h.Class == detect.Timeout {
		d.now += probeTimeout
	} else {
		d.now += attempt / 10
	}
	hosts := []detect.Host{h}
	if k.second {
		hosts = append(hosts, detect.Host{Host: "mx2.example.test:25", Class: detect.Healthy})
	}
	return hosts
}

// round probes, decides and carries out.
func (d *domain) round(k *kind) {
	e := detect.Evidence{Hosts: d.look(k), Deliveries: d.results}
	d.results = map[detect.Class]int{}
	if since, ok := d.state.StormSince(settings, at(d.now)); ok {
		e.Waiting = len(d.waiting)
		for i := len(d.taken) - 1; i >= 0 && !at(d.taken[i]).Before(since.Add(-30*time.Second)); i-- {
			e.Accepted++
		}
	}
	var actions []detect.Action
	d.state, actions = detect.Next(d.state, e, settings, at(d.now))
	held := false
	if !d.view.Allows() {
		d.lookAround()
	}
	for _, a := range actions {
		held = !d.act(a) || held
	}
	d.last = d.now
	young := d.state.Failures > 0 && d.state.Failures <= 2*settings.Failures
	recent := d.state.Fallbacks > 0 && at(d.now).Sub(d.state.FallbackAt) < evidence
	d.probe = d.now + time.Duration(float64(interval)*(.9+.2*d.rnd.Float64()))
	if young || recent || held || !d.view.Allows() {
		d.probe = d.now + fast
	}
	// While our own network is down nothing changes.
	if d.view.View == detect.OwnNetwork && d.in.ill(d.now) {
		d.probe = max(d.probe, d.in.end-interval)
	}
	// A long outage in emergency brings nothing new until it ends.
	if d.state.Mode == directory.Emergency && e.Hosts[0].Class.Down() && !k.second && k.flap == 0 && !young {
		d.probe = max(d.probe, d.in.end-interval)
	}
}

// lookAround is the worker's look at all domains.
func (d *domain) lookAround() {
	o := detect.Outlook{Watched: 200, Failing: 1}
	if kinds[d.in.kind].network && d.in.ill(d.now) {
		o.Failing, o.Witness = 200, detect.NoneAnswers
	}
	d.view = d.view.Next(o, vantage, at(d.now))
}

// act carries out a switch, as the monitor does.
func (d *domain) act(a detect.Action) bool {
	if a.To == directory.Emergency && d.state.Failures >= settings.Failures {
		if d.lookAround(); !d.view.Allows() {
			return false
		}
	}
	d.state = d.state.Switched(a.To, false, at(d.now), settings)
	if a.To == directory.Emergency {
		if d.out.switches++; d.out.switched < 0 {
			d.out.switched = d.now - d.in.start
		}
		d.began = d.now
		d.release(time.Second) // the worker moves what waits
		return true
	}
	if d.now-d.began < settings.RecoverAfter {
		d.out.tooSoon++
	}
	if d.now < d.in.end {
		d.out.early++
	} else {
		d.out.back = d.now - d.in.end
	}
	return true
}
