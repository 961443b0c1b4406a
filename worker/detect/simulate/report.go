package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
)

// config is the size of a simulation. The same seed gives the same report.
type config struct {
	domains, days int
	seed          uint64
}

// sum is what a report says of one kind.
type sum struct {
	incidents, switched, switches, early, missed, late, little, messages, bounced, tooSoon int

	when, back   []time.Duration
	delay, worst time.Duration
}

const (
	lateAfter  = 30 * time.Second // a switch is late
	missedFrom = time.Minute      // an outage this long is to be seen
)

// run simulates all domains.
func run(c config) []sum {
	length := time.Duration(c.days) * 24 * time.Hour
	world := rand.New(rand.NewPCG(c.seed, 0))
	var network []incident
	for at := wait(world, length/4); at < length-4*time.Hour; at += wait(world, length/4) + 6*time.Hour {
		network = append(network, incident{kind: len(kinds) - 1, start: at, end: at + between(world, time.Minute, time.Hour)})
	}
	lives := make([][]outcome, c.domains)
	var wg sync.WaitGroup
	each := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range each {
				rnd := rand.New(rand.NewPCG(c.seed, uint64(i)+1))
				lives[i] = live(rnd, history(rnd, length, 5*24*time.Hour, network))
			}
		})
	}
	for i := range c.domains {
		each <- i
	}
	close(each)
	wg.Wait()
	sums := make([]sum, len(kinds))
	for _, l := range lives { // in order: the report does not depend on the machine
		for _, o := range l {
			sums[o.kind].add(&o)
		}
	}
	return sums
}

func (s *sum) add(o *outcome) {
	server := kinds[o.kind].server
	s.incidents++
	s.switches += o.switches
	s.early += o.early
	s.messages += o.messages
	s.bounced += o.bounced
	s.delay += o.delay
	s.tooSoon += o.tooSoon
	s.worst = max(s.worst, o.worst)
	unseen := kinds[o.kind].plain.Down() // by probes alone
	switch {
	case o.switched >= 0:
		s.switched++
		s.when = append(s.when, o.switched)
		s.back = append(s.back, o.back)
		if server && unseen && o.switched > lateAfter+time.Duration(settings.Failures)*(kinds[o.kind].probeTakes()-probeTimeout) {
			s.late++
		}
	case server && !unseen && o.tooLittle:
		s.little++
	case server && o.lasted >= missedFrom:
		s.missed++
	}
}

// quantile returns a value of a sorted list.
func quantile(v []time.Duration, q float64) string {
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	return seconds(v[int(q*float64(len(v)-1))])
}

func seconds(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%.1f", d.Seconds())
	}
	return fmt.Sprintf("%.0f", d.Seconds())
}

// write writes the report as Markdown.
func write(w io.Writer, c config, sums []sum) {
	fmt.Fprintf(w, `# Simulation of the detector

Written by `+"`go run ./worker/detect/simulate`"+`: %d domains over %d days, seed %d. Each domain fails now and then in one of the ways below; the
decisions are those of package worker/detect with its default settings, on a simulated clock. Durations are drawn so that most are short.
Messages come by chance, from one in 20 s to one in an hour, different for each domain. Times are in seconds.

## Where an emergency is right

| failure | incidents | switched | p50 | p95 | worst | late | missed | too little mail | early returns | back after p50 | p95 | messages | bounced | mean delay | worst delay |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
`, c.domains, c.days, c.seed)
	var all, wrong sum
	for i, s := range sums {
		if !kinds[i].server {
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %d | %s | %s | %s | %d | %d | %d | %d | %s | %s | %d | %d | %s | %s |\n", kinds[i].name, s.incidents, s.switched,
			quantile(s.when, .5), quantile(s.when, .95), quantile(s.when, 1), s.late, s.missed, s.little, s.early,
			quantile(s.back, .5), quantile(s.back, .95), s.messages, s.bounced, seconds(s.delay/time.Duration(max(1, s.messages))), seconds(s.worst))
		all.plus(&s)
	}
	fmt.Fprintf(w, `
"p50" to "worst" are from the beginning of the failure to the switch. "Late" is more than %v where probes can see the failure (and as long as three probes
wait for a silent server). "Missed" lasted %v or longer and was never switched. "Too little mail": only deliveries could tell, and there were fewer than
a storm needs; each message of these fell back or waited by itself. "Early returns" went back to normal while the failure went on, which only deliveries
can tell; they double the wait each time. "Back" is from the end of the failure. "Bounced" were refused without a reason (554) while there was no storm, or
before it was known. A delay is from the acceptance of a message to where somebody can read it, portal or primary, over all messages taken during the
failure.

## Where an emergency is wrong

| failure | incidents | false switches | messages | bounced | mean delay | worst delay |
|---|--:|--:|--:|--:|--:|--:|
`, lateAfter, missedFrom)
	for i, s := range sums {
		if kinds[i].server {
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %s | %s |\n", kinds[i].name, s.incidents, s.switches, s.messages, s.bounced,
			seconds(s.delay/time.Duration(max(1, s.messages))), seconds(s.worst))
		wrong.plus(&s)
	}
	fmt.Fprintf(w, `
"Own network down" comes to all domains at once; the witnesses do not answer then. "Neighbours" are other domains on the same host with one message in 5 s
to one in 10 min: a fifth of them is refused without a reason, also for half an hour after the failure, and such a result names only the host.

## Sums

- Right: %d incidents, %d switches in %d of them; %d late, %d missed, %d with too little mail to tell, %d early returns.
- Wrong: %d incidents, %d false switches.
- Delay of mail: %.0f s for %d messages taken during failures where an emergency is right, %.2f s each; %d bounced.
- Switches faster than the damping allows: %d.
`, all.incidents, all.switches, all.switched, all.late, all.missed, all.little, all.early, wrong.incidents, wrong.switches,
		all.delay.Seconds(), all.messages, all.delay.Seconds()/float64(max(1, all.messages)), all.bounced, all.tooSoon+wrong.tooSoon)
}

func (s *sum) plus(o *sum) {
	s.incidents += o.incidents
	s.switched += o.switched
	s.switches += o.switches
	s.early += o.early
	s.missed += o.missed
	s.late += o.late
	s.little += o.little
	s.messages += o.messages
	s.bounced += o.bounced
	s.delay += o.delay
	s.tooSoon += o.tooSoon
}
