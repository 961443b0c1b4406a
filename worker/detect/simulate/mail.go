package main

import (
	"time"

	"understudy/internal/directory"
	"understudy/worker/detect"
)

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

// notOurs delivers one for another domain on the host, where it does not fall
// back: its result names only the host.
func (d *domain) notOurs(k *kind) {
	d.theirs = append(d.theirs, d.now)
	switch {
	case k.plain.Down() && d.in.ill(d.now):
		d.met(k.plain)
	case d.rnd.Float64() < k.near:
		d.met(detect.ServerReject)
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
