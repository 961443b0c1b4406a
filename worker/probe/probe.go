// Package probe asks a primary whether it would take mail now: connect,
// banner, EHLO, STARTTLS where offered, MAIL FROM:<>, on wish RCPT TO for
// recipients that it is known to have, RSET, QUIT (RFC 5321, RFC 3207). It
// sends no message.
//
// Every probe ends in its time and takes little memory, whatever the other
// side sends. A connection comes at once or not at all; but a server that has
// taken it may let clients wait on purpose (postscreen(8) greets after 6 s,
// others slow down each reply), and gets mail all the same. So a probe is
// more patient once it is connected. It tells classes apart as package detect
// wants them.
package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"understudy/internal/nexthop"
	"understudy/worker/detect"
)

const (
	maxReplies = 64 << 10 // bytes taken from the other side in one probe
	maxDetail  = 200      // bytes
	patience   = 4        // of Prober.Timeout, for the dialogue
)

// Prober probes primaries.
type Prober struct {
	Helo    string        // our name in EHLO
	Timeout time.Duration // of the name lookup, and of a connection; the dialogue has four times as long
}

// Probe asks a primary, as package nexthop reads it, naming recipients to it
// if there are any. One host of several behind it (MX) that takes mail is
// enough.
func (p *Prober) Probe(ctx context.Context, primary string, recipients ...string) detect.Host {
	hosts, err := p.lookUp(ctx, primary)
	if err != nil {
		h := detect.Host{Host: primary}
		h.Class, h.Detail = classify(err, p.Timeout, false)
		return h
	}
	found := make([]detect.Host, len(hosts))
	var wg sync.WaitGroup
	for i, address := range hosts {
		wg.Go(func() { found[i] = p.host(ctx, address, recipients) })
	}
	wg.Wait()
	best := found[0] // the one that mail goes to first
	if i := slices.IndexFunc(found, func(h detect.Host) bool { return h.Class == detect.Healthy }); i > 0 {
		best = found[i]
	}
	best.Host = primary
	return best
}

// lookUp returns the hosts behind a primary.
func (p *Prober) lookUp(ctx context.Context, primary string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	return nexthop.Hosts(ctx, primary)
}

// host asks the host at "host:port".
func (p *Prober) host(ctx context.Context, address string, recipients []string) detect.Host {
	ctx, cancel := context.WithTimeout(ctx, (1+patience)*p.Timeout)
	defer cancel()
	h, err := p.try(ctx, address, true, recipients)
	if refused := tlsAlert(err); refused != nil {
		// It wants ciphers that this program does not have. Postfix may have
		// them: that is no failure of the primary.
		if h, err = p.try(ctx, address, false, recipients); err == nil && h.Class == detect.Healthy {
			h.Detail = printable("TLS not probed: " + refused.Error())
		}
	}
	if err != nil {
		deadline, _ := ctx.Deadline()
		h.Class, h.Detail = classify(err, p.allowed(err), time.Now().After(deadline))
	}
	return h
}

// allowed is how long the server had for the stage that an error names.
func (p *Prober) allowed(err error) time.Duration {
	var at *stageError
	if errors.As(err, &at) && at.stage != stageConnect {
		return patience * p.Timeout
	}
	return p.Timeout
}

// try plays the dialogue once. The error is a stageError.
func (p *Prober) try(ctx context.Context, address string, useTLS bool, recipients []string) (detect.Host, error) {
	h := detect.Host{Host: address, Class: detect.Healthy}
	s, err := p.open(ctx, address, useTLS)
	if err != nil {
		return h, err
	}
	defer s.close()
	if len(recipients) > 0 {
		replies, err := s.recipients(recipients[:min(len(recipients), maxRecipients)])
		if err != nil {
			return h, &stageError{"RCPT", err}
		}
		h.Recipients = len(replies)
		h.Class, h.Detail = judge(replies)
	}
	s.leave()
	return h, nil
}

// open connects and plays the dialogue up to MAIL, which ends with ctx. The
// error is a stageError.
func (p *Prober) open(ctx context.Context, address string, useTLS bool) (*session, error) {
	conn, err := (&net.Dialer{Timeout: p.Timeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &stageError{stageConnect, err}
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // ends all I/O
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline) //nolint:errcheck // a TCP connection has deadlines
	}
	s := &session{helo: p.Helo, in: &io.LimitedReader{N: maxReplies}, close: func() { stop(); conn.Close() }}
	s.use(conn)
	if err := s.begin(ctx, address, useTLS); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}
