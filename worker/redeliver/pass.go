package redeliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy/internal/address"
	"understudy/internal/archive"
	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/mime"
	"understudy/internal/route"
	"understudy/internal/store"
)

// pass is one run over the due items of a redelivery.
type pass struct {
	*Worker
	redelivery *store.Redelivery
	until      time.Time

	mu        sync.Mutex
	suspended map[string]time.Time // hosts that do not talk to us, until then
}

// all delivers every item that is due. Its error is the store's.
func (p *pass) all(ctx context.Context) error {
	for ctx.Err() == nil && time.Now().Before(p.until) {
		items, err := p.Store.DueItems(ctx, p.redelivery.ID, p.Gateway, batch)
		if err != nil || len(items) == 0 {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atOnce)
		for _, i := range items {
			if ctx.Err() != nil || time.Now().After(p.until) {
				break
			}
			group.Go(func() error { return p.guarded(ctx, i) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// guarded keeps a panic over one message from ending the process.
func (p *pass) guarded(ctx context.Context, i store.RedeliveryItem) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.Log.Error("panic while redelivering a message", "id", i.Message, "mailbox", i.Mailbox, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = p.failed(ctx, i, "internal error; it was noted")
		}
	}()
	return p.item(ctx, i)
}

// item delivers one message to one mailbox.
func (p *pass) item(ctx context.Context, i store.RedeliveryItem) error {
	before := i.State
	begun, err := p.Store.BeginItem(ctx, i)
	if err != nil || !begun {
		return err
	}
	i.Attempts++
	if before == "sending" {
		p.metrics.uncertain.Inc()
		p.Log.Warn("message is redelivered once more: the outcome of its last attempt is unknown", "id", i.Message, "mailbox", i.Mailbox)
	}
	to, err := address.Parse(i.Mailbox)
	if err != nil {
		return p.failed(ctx, i, "not an address that mail can be sent to")
	}
	if !p.Directory.Loaded() {
		return p.later(ctx, i, "the directory is not loaded yet")
	}
	recipient := p.Directory.Recipient(to)
	hosts := p.hosts(recipient)
	if len(hosts) == 0 {
		return p.failed(ctx, i, to.Domain+" is not a domain of this installation any more")
	}
	if until, ok := p.isSuspended(hosts); ok {
		return p.put(ctx, func(ctx context.Context) error {
			return p.Store.ItemRetry(ctx, i, hosts[0]+" does not answer", until)
		})
	}
	return p.send(ctx, i, recipient, hosts)
}

// hosts are where a mailbox's mail goes at this moment.
func (p *pass) hosts(r directory.Recipient) []string {
	switch route.For(r) {
	case route.NotOurs:
		return nil
	case route.Portal:
		return []string{p.Reentry}
	default:
		return r.Domain.Primaries
	}
}

// send reads the message and brings it to the hosts.
func (p *pass) send(ctx context.Context, i store.RedeliveryItem, to directory.Recipient, hosts []string) error {
	ctx, cancel := context.WithTimeout(ctx, p.Worker.Config.Timeout)
	defer cancel()
	access, err := accessOf(p.redelivery)
	if err != nil {
		return p.failed(ctx, i, "the order cannot be read")
	}
	m, err := p.Store.Message(ctx, access, i.Message)
	if errors.Is(err, store.ErrNotFound) {
		return p.failed(ctx, i, "the message is not in the archive any more")
	} else if err != nil {
		return err
	}
	record, err := p.Open(ctx, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
	switch {
	case errors.Is(err, archive.ErrEncrypted):
		return p.failed(ctx, i, "the message is encrypted, and the worker was not given the key to it (archive_identity_file)")
	case errors.Is(err, fs.ErrNotExist):
		return p.missing(ctx, i, m.Segment)
	case errors.Is(err, archive.ErrDamaged):
		return p.failed(ctx, i, "the message cannot be read from the archive")
	case err != nil:
		p.Log.Warn("archive cannot be read now", "id", i.Message, "error", err)
		return p.later(ctx, i, "the archive cannot be read now")
	}
	defer record.Close()
	top := p.trace(i)
	body := io.MultiReader(strings.NewReader(top), mime.DropFields(record.Body, p.dropped(i, record)...))
	result := p.Delivery.Deliver(ctx, hosts, delivery.Message{Recipients: []string{to.Address.String()}, Body: body, Size: record.Size + int64(len(top))})[0]
	return p.judge(ctx, i, hosts, result)
}

// missing deals with a message whose segment is neither here nor shipped.
func (p *pass) missing(ctx context.Context, i store.RedeliveryItem, segment string) error {
	gateway, err := p.Store.SegmentGateway(ctx, segment)
	switch {
	case err != nil:
		return err
	case gateway == "" || gateway == p.Gateway:
		return p.failed(ctx, i, "the message cannot be read from the archive")
	case time.Since(p.redelivery.At) > giveUpAfter:
		return p.failed(ctx, i, "given up: its segment is on gateway "+gateway+" and not yet shipped")
	}
	p.metrics.messages.WithLabelValues("deferred").Inc()
	return p.put(ctx, func(ctx context.Context) error { return p.Store.ItemElsewhere(ctx, i, gateway, elsewhere) })
}

// dropped are the fields that Postfix drops at delivery (message_drop_headers),
// after the archive has seen them. Its sender keeps the Bcc.
func (p *pass) dropped(i store.RedeliveryItem, r *archive.Record) []string {
	if from, err := address.Parse(r.Sender); err == nil {
		if m := p.Directory.Recipient(from).Mailbox; m != nil && m.Address == i.Mailbox {
			return []string{"return-path", "content-length"}
		}
	}
	return []string{"bcc", "resent-bcc", "return-path", "content-length"}
}

// trace is what stands on top of a message that is delivered again.
func (p *pass) trace(i store.RedeliveryItem) string {
	by := strings.Map(func(r rune) rune {
		if r <= ' ' && r != ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, p.redelivery.Actor)
	return fmt.Sprintf("X-Understudy-Redelivered: %s\r\n\tby %.300s\r\nX-Understudy-Id: %s\r\n", time.Now().UTC().Format(time.RFC1123Z), by, i.Message)
}

// judge records what the server said.
func (p *pass) judge(ctx context.Context, i store.RedeliveryItem, hosts []string, result delivery.Result) error {
	failure := result.Err
	switch {
	case failure == nil:
		p.metrics.messages.WithLabelValues("sent").Inc()
		return p.put(ctx, func(ctx context.Context) error { return p.Store.ItemSent(ctx, i, result.Reply) })
	case !failure.Temporary:
		return p.failed(ctx, i, failure.Reply())
	case failure.ServerWide() && !failure.Unknown:
		p.suspend(hosts)
	}
	if failure.Unknown {
		p.metrics.uncertain.Inc()
	}
	return p.later(ctx, i, failure.Reply())
}

func (p *pass) failed(ctx context.Context, i store.RedeliveryItem, why string) error {
	p.metrics.messages.WithLabelValues("failed").Inc()
	p.Log.Warn("message cannot be redelivered", "id", i.Message, "mailbox", i.Mailbox, "reply", why)
	return p.put(ctx, func(ctx context.Context) error { return p.Store.ItemFailed(ctx, i, why) })
}

// later has an item tried again after a while, until it is given up.
func (p *pass) later(ctx context.Context, i store.RedeliveryItem, why string) error {
	if time.Since(p.redelivery.At) > giveUpAfter {
		return p.failed(ctx, i, "given up: "+why)
	}
	p.metrics.messages.WithLabelValues("deferred").Inc()
	next := time.Now().Add(pause(i.Attempts))
	return p.put(ctx, func(ctx context.Context) error { return p.Store.ItemRetry(ctx, i, why, next) })
}

// suspend leaves hosts alone for a moment: the other messages would meet the
// same.
func (p *pass) suspend(hosts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.suspended[strings.Join(hosts, ",")] = time.Now().Add(firstPause)
}

func (p *pass) isSuspended(hosts []string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.suspended[strings.Join(hosts, ",")]
	return until, time.Now().Before(until)
}

// put records what has happened outside, whether or not the run is being
// cancelled, and tries again when PostgreSQL stumbles: what is not recorded is
// sent twice.
func (p *pass) put(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
