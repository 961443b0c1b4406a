package policy

import (
	"log/slog"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/policyd/session"
)

// responder decides from the directory and keeps what the requests tell.
type responder struct {
	dir   *directory.Directory
	ring  *evidence.Ring
	log   *slog.Logger
	fails fallbacks
}

// NewServer returns a server that answers from dir and reports to ring what
// it learns of primaries.
func NewServer(dir *directory.Directory, ring *evidence.Ring, limit int, log *slog.Logger, m *session.Metrics) *session.Server[Request] {
	p := &responder{dir: dir, ring: ring, log: log}
	return &session.Server[Request]{Protocol: "policy", Max: limit, BufferBytes: maxLineBytes,
		Read: Read, Answer: p.answer, Log: log, Metrics: m}
}

func (p *responder) answer(req Request) session.Answer {
	now := time.Now()
	d := Decide(req, p.dir, func(dom *directory.Domain) bool { return p.fails.failing(dom, now) })
	if d.Evidence != nil {
		p.report(*d.Evidence, now)
	}
	if d.Label == wrongWiring.Label {
		p.log.Error("Postfix asks with a policy_context that is none of ours", "context", printable(req.Context))
	}
	return session.Answer{Bytes: []byte("action=" + d.Action + "\n\n"), Question: question(req.Context), Label: d.Label}
}

func (p *responder) report(e evidence.Event, now time.Time) {
	e.At = now.UTC()
	p.ring.Add(e)
	if dom, ok := p.dir.Domain(e.Domain); ok {
		p.fails.note(dom, now)
	}
	p.log.Info("message came back from its primary", "domain", e.Domain, "recipient", e.Recipient, "class", e.Class)
}

// question is the context as a label of metrics.
func question(context string) string {
	switch context {
	case "":
		return ContextRecipient
	case ContextRecipient, ContextRelay, ContextSubmission, ContextReentry:
		return context
	}
	return "other"
}
