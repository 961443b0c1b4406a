package starving

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"understudy/internal/bench/rig"
	"understudy/internal/blackhole"
	"understudy/internal/directory"
	"understudy/internal/freeport"
	"understudy/internal/stack"
	"understudy/internal/wait"
)

const (
	domains       = 20
	neighbourPace = 500 * time.Millisecond // between two messages for one of them
)

// neighbours are domains that share the gateway with the healthy one, each
// with a mailbox, a primary and a sender of its own.
type neighbours struct {
	stack     *stack.Stack
	users     []string
	addresses []string // of the primaries

	alive []*primary
	dead  []*blackhole.Hole

	senders sync.WaitGroup
	end     chan struct{} // closed to end the mail; nil: none is sent

	mu            sync.Mutex
	sent, refused int
}

// newNeighbours makes 20 domains that no round had before, and lets their
// primaries live.
func (r *run) newNeighbours(ctx context.Context) (*neighbours, error) {
	n := &neighbours{stack: r.stack}
	for range domains {
		r.made++
		address, err := freeport.Address()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("neighbour%d.test", r.made)
		if _, err := n.stack.CLI(ctx, "", "domain", "add", name, "--primary", address, "--activation", "automatic"); err != nil {
			return nil, err
		}
		if _, err := n.stack.CLI(ctx, "a password of enough length\n", "mailbox", "add", "user@"+name, "--password-stdin"); err != nil {
			return nil, err
		}
		n.users, n.addresses = append(n.users, "user@"+name), append(n.addresses, address)
	}
	if err := n.revive(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// die lets the packets to all primaries vanish.
func (n *neighbours) die() error {
	n.endPrimaries()
	for _, a := range n.addresses {
		s, err := blackhole.Open(a)
		if err != nil {
			return err
		}
		n.dead = append(n.dead, s)
	}
	return nil
}

// revive starts all primaries.
func (n *neighbours) revive() error {
	n.endPrimaries()
	for _, a := range n.addresses {
		p, err := newPrimary(a)
		if err != nil {
			return err
		}
		n.alive = append(n.alive, p)
	}
	return nil
}

func (n *neighbours) endPrimaries() {
	for _, p := range n.alive {
		p.close()
	}
	for _, s := range n.dead {
		s.Close() //nolint:errcheck // what counts is what listens next
	}
	n.alive, n.dead = nil, nil
}

func (n *neighbours) close() {
	n.endMail()
	n.endPrimaries()
}

// beginMail sends to all of them until endMail: each has its turn in the
// pace, so that they do not come in bursts.
func (n *neighbours) beginMail() {
	n.end = make(chan struct{})
	begin := time.Now()
	for i, user := range n.users {
		first := begin.Add(neighbourPace * time.Duration(i) / time.Duration(len(n.users)))
		n.senders.Go(func() { n.send(user, first) })
	}
}

// send sends at its times; one that has passed when a reply comes is left out.
func (n *neighbours) send(user string, next time.Time) {
	for {
		select {
		case <-n.end:
			return
		case <-time.After(time.Until(next)):
		}
		_, err := rig.Send(n.stack.Info.SMTP, user, "to a neighbour")
		n.mu.Lock()
		if err == nil {
			n.sent++
		} else {
			n.refused++ // a sender would try again
		}
		n.mu.Unlock()
		for next = next.Add(neighbourPace); next.Before(time.Now()); {
			next = next.Add(neighbourPace)
		}
	}
}

// endMail returns when all senders have ended.
func (n *neighbours) endMail() {
	if n.end != nil {
		close(n.end)
		n.senders.Wait()
		n.end = nil
	}
}

func (n *neighbours) sending() bool { return n.end != nil }

// count is how many messages were accepted so far, and how many were not.
func (n *neighbours) count() (sent, refused int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent, n.refused
}

// state says what a measurement stands beside.
func (n *neighbours) state() string {
	switch {
	case !n.sending():
		return "no mail for neighbours"
	case n.dead == nil:
		return "beside neighbours alive"
	}
	return "beside dead neighbours"
}

// awaitEmergency waits until the worker has switched all of them.
func (n *neighbours) awaitEmergency(ctx context.Context) error {
	mine := map[string]bool{}
	for _, u := range n.users {
		mine[u[len("user@"):]] = true
	}
	return wait.For(ctx, 3*time.Minute, rig.Poll, func() error {
		text, err := n.stack.CLI(ctx, "", "domain", "list", "--json")
		if err != nil {
			return wait.Never(err)
		}
		var all []directory.Domain
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return wait.Never(fmt.Errorf("read the list of domains: %w", err))
		}
		switched := 0
		for _, d := range all {
			if mine[d.Name] && d.Mode == directory.Emergency {
				switched++
			}
		}
		if switched == len(mine) {
			return nil
		}
		if err := rest(ctx, 500*time.Millisecond); err != nil { // asking costs a process
			return wait.Never(err)
		}
		return fmt.Errorf("%d of %d dead domains are switched", switched, len(mine))
	})
}
