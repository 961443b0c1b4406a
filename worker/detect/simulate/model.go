package main

import (
	"math"
	"math/rand/v2"
	"time"

	"understudy/worker/detect"
)

// result is what one delivery in normal mode comes to.
type result int

const (
	delivered result = iota
	fellBack         // in the portal within the same attempt
	refused          // a 5xx without a reason
)

// kind is one way in which a primary fails.
type kind struct {
	name   string
	server bool // an emergency is right
	often  int  // weight
	from   time.Duration
	to     time.Duration // how long it lasts

	plain, named detect.Class            // what a probe finds without and with recipients
	second       bool                    // another primary is well
	deliver      func(*rand.Rand) result // nil: fellBack
	costs        time.Duration           // of an attempt that falls back
	silent       time.Duration           // that a probe waits for a server that was connected
	flap         time.Duration           // well and ill by turns
	network      bool                    // our own: all domains at once
	near         float64                 // of the mail of other domains on the host is refused without a reason, also for nearAfter
}

func share(of float64, r result) func(*rand.Rand) result {
	return func(rnd *rand.Rand) result {
		if rnd.Float64() < of {
			return r
		}
		return delivered
	}
}

// probeTakes is how long a probe that gets no answer takes.
func (k *kind) probeTakes() time.Duration { return max(probeTimeout, k.silent) }

// The timeouts are those of the ansible roles: 5 s of a probe's connection
// (and 20 s of its dialogue), 10 s of Postfix's connect, 30 s of its EHLO.
const (
	probeTimeout   = 5 * time.Second
	probeDialogue  = 20 * time.Second
	connectTimeout = 10 * time.Second
	heloTimeout    = 30 * time.Second
	attempt        = 200 * time.Millisecond
	retryEvery     = 2 * time.Minute // minimal_backoff_time
	nearAfter      = 30 * time.Minute
)

var kinds = []kind{
	{name: "dead host", server: true, often: 8, from: time.Minute, to: 8 * time.Hour, plain: detect.Timeout, costs: connectTimeout},
	{name: "dead port", server: true, often: 10, from: time.Minute, to: 4 * time.Hour, plain: detect.Unreachable},
	{name: "SYN drop", server: true, often: 5, from: time.Minute, to: 4 * time.Hour, plain: detect.Timeout, costs: connectTimeout},
	{name: "accepts connections, says nothing", server: true, often: 3, from: 2 * time.Minute, to: 4 * time.Hour, plain: detect.Timeout, costs: heloTimeout, silent: probeDialogue},
	{name: "DNS failure", server: true, often: 3, from: time.Minute, to: 2 * time.Hour, plain: detect.Unreachable},
	{name: "TLS failure", server: true, often: 2, from: 10 * time.Minute, to: 8 * time.Hour, plain: detect.TLS},
	{name: "421 at banner", server: true, often: 4, from: time.Minute, to: time.Hour, plain: detect.ServerTempfail},
	{name: "451 4.3.2 to everybody", server: true, often: 3, from: 5 * time.Minute, to: 4 * time.Hour, plain: detect.Healthy, named: detect.ServerTempfail},
	{name: "451 after the data to everybody", server: true, often: 1, from: 5 * time.Minute, to: 4 * time.Hour, plain: detect.Healthy, named: detect.Healthy},
	{name: "552 5.3.1 to everybody", server: true, often: 2, from: 5 * time.Minute, to: 8 * time.Hour, plain: detect.Healthy, named: detect.Healthy},
	{name: "554 without a reason to everybody", server: true, often: 2, from: 5 * time.Minute, to: 8 * time.Hour, plain: detect.Healthy, named: detect.Healthy, deliver: share(1, refused)},
	{name: "552 at MAIL", server: true, often: 2, from: 5 * time.Minute, to: 8 * time.Hour, plain: detect.ServerReject},
	{name: "flapping every 30 s", server: true, often: 3, from: 5 * time.Minute, to: 2 * time.Hour, plain: detect.Unreachable, flap: 30 * time.Second},
	{name: "dead port, then neighbours' mail refused", server: true, often: 3, from: time.Minute, to: 4 * time.Hour, plain: detect.Unreachable, near: .2},
	{name: "451 4.7.500 to some", often: 6, from: 5 * time.Minute, to: 2 * time.Hour, plain: detect.Healthy, named: detect.RecipientDefer, deliver: share(.3, fellBack)},
	{name: "greylisting", often: 10, from: 10 * time.Minute, to: 3 * time.Hour, plain: detect.Healthy, named: detect.RecipientDefer, deliver: share(.95, fellBack)},
	{name: "one mailbox over quota", often: 8, from: 10 * time.Minute, to: 3 * time.Hour, plain: detect.Healthy, named: detect.RecipientDefer, deliver: share(.12, fellBack)},
	{name: "spam refused without a reason", often: 5, from: 10 * time.Minute, to: 2 * time.Hour, plain: detect.Healthy, named: detect.Healthy, deliver: share(.5, refused)},
	{name: "neighbours' mail refused without a reason", often: 5, from: 10 * time.Minute, to: 2 * time.Hour, plain: detect.Healthy, named: detect.Healthy, deliver: share(0, delivered), near: .2},
	{name: "one of two hosts down", often: 6, from: time.Minute, to: 8 * time.Hour, plain: detect.Unreachable, second: true, deliver: share(0, delivered)},
	{name: "blip of at most 2 s", often: 20, from: 100 * time.Millisecond, to: 2 * time.Second, plain: detect.Unreachable},
	{name: "own network down", network: true, plain: detect.Timeout, costs: connectTimeout},
}

// incident is one failure of one domain.
type incident struct {
	kind       int
	start, end time.Duration // from the beginning of the simulation
}

// ill reports whether the failure shows at a moment.
func (i *incident) ill(at time.Duration) bool {
	if at < i.start || at >= i.end {
		return false
	}
	flap := kinds[i.kind].flap
	return flap == 0 || (at-i.start)/flap%2 == 0
}

// between draws a duration whose logarithm is even: most are short.
func between(rnd *rand.Rand, from, to time.Duration) time.Duration {
	return time.Duration(float64(from) * math.Pow(float64(to)/float64(from), rnd.Float64()))
}

// wait draws the time to the next of events that come by chance.
func wait(rnd *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(rnd.ExpFloat64() * float64(mean))
}

// history draws the incidents of one domain. They do not touch each other.
func history(rnd *rand.Rand, length, gap time.Duration, network []incident) []incident {
	total := 0
	for _, k := range kinds {
		total += k.often
	}
	var out []incident
	for at := wait(rnd, gap); at < length; at += wait(rnd, gap) + time.Hour {
		n, pick := rnd.IntN(total), 0
		for ; n >= kinds[pick].often; pick++ {
			n -= kinds[pick].often
		}
		i := incident{kind: pick, start: at, end: at + between(rnd, kinds[pick].from, kinds[pick].to)}
		for _, x := range network {
			if x.start < i.end+2*time.Hour && i.start < x.end+2*time.Hour {
				i.end = 0
			}
		}
		if i.end > 0 && i.end < length {
			out = append(out, i)
			at = i.end
		}
	}
	return append(out, network...)
}
