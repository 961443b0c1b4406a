package policy

import (
	"log/slog"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/policyd/limit"
	"understudy/policyd/session"
)

// responder decides from the directory and keeps what the requests tell.
type responder struct {
	dir    *directory.Directory
	ring   *evidence.Ring
	rates  limit.Config
	limits *limit.Limits
	gate   *Gate
	log    *slog.Logger
	fails  fallbacks
}

// Sources are what a server answers from, and where it reports to.
type Sources struct {
	Directory *directory.Directory
	Ring      *evidence.Ring // gets what is learned of primaries
	Rates     limit.Config
	Limits    *limit.Limits
	Gate      *Gate // of re-entry
}

// NewServer returns a server of at most so many connections at once.
func NewServer(s Sources, connections int, log *slog.Logger, m *session.Metrics) *session.Server[Request] {
	p := &responder{dir: s.Directory, ring: s.Ring, rates: s.Rates, limits: s.Limits, gate: s.Gate, log: log}
	return &session.Server[Request]{Protocol: "policy", Max: connections, BufferBytes: maxLineBytes,
		Read: Read, Answer: p.answer, Log: log, Metrics: m}
}

func (p *responder) answer(req Request) session.Answer {
	if (req.Context == ContextReentry || req.Context == ContextReentryQuiet) && !p.gate.admits(req, p.log) {
		return session.Answer{Bytes: []byte("action=" + stranger.Action + "\n\n"), Question: req.Context, Label: stranger.Label}
	}
	now := time.Now()
	d := Decide(req, p.dir, func(dom *directory.Domain) bool { return p.fails.failing(dom, now) })
	if key, rate, ok := charged(req, d, p.dir, &p.rates); ok {
		if a := p.limits.Take(key, rate, now); !a.OK {
			d = overLimit(key.Kind, a, rate)
		}
	}
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
	case ContextRecipient, ContextRelay, ContextSubmission, ContextReentry, ContextReentryQuiet:
		return context
	}
	return "other"
}
