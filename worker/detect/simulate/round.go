package main

import (
	"time"

	"understudy/internal/directory"
	"understudy/worker/detect"
)

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
		d.now += k.probeTakes()
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
		// As the monitor's accepted.
		e.Waiting, e.Accepted = len(d.waiting), from(d.taken, since.Add(-before))
		if e.Accepted > 0 && d.state.Storm.Refused > e.Waiting {
			e.Accepted += from(d.theirs, since.Add(-before))
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

// from counts the newest of some moments, back to since.
func from(moments []time.Duration, since time.Time) (n int) {
	for i := len(moments) - 1; i >= 0 && !at(moments[i]).Before(since); i-- {
		n++
	}
	return n
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
