package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"runtime/debug"
	"time"

	"github.com/emersion/go-milter"
	"github.com/google/uuid"

	"understudy/internal/archive"
)

// idHeader is inserted on top of every archived message.
const idHeader = "X-Understudy-Id"

// maxEnvelope bounds the recipients of one message, in bytes: what a record
// holds, twice (with their mailboxes). The thousand that Postfix takes
// (smtpd_recipient_limit) have room, unless their names are absurd.
const maxEnvelope = 450 << 10

var errPanic = errors.New("panic in a milter callback")

// session is one connection from smtpd or cleanup, on which several messages
// may come one after the other. go-milter calls it from one goroutine. It
// implements milter.Milter.
type session struct {
	server *server
	conn   *deadlineConn

	// Of the connection.
	helo   string
	client string

	// Of the message.
	from       origin
	recipients []string
	addresses  int // bytes of all recipients
	queueID    string
	decided    bool // verdict is known: the envelope is complete
	verdict    verdict
	message    *message // nil until its content begins, or when it is not to be archived
	refusal    *refusal // what its end will be answered with, when that is known before
}

// refusal is a temporary failure.
type refusal struct {
	reason string // label of metrics
	reply  string // SMTP reply: it keeps go-milter's session, and tells the client's postmaster what is wrong
	cause  error
}

var (
	notReady = &refusal{"directory", "451 4.3.0 Archive not ready, try again later", errors.New("directory not loaded")}
	tooMany  = &refusal{"recipients", "452 4.5.3 Too many recipients in one message", errors.New("too many recipients")}
	noOrder  = &refusal{"protocol", "451 4.3.0 Message not understood, try again later", errors.New("end of a message that never began")}
)

// reset forgets the message.
func (s *session) reset() {
	if s.message != nil {
		s.message.spool.Close()
	}
	s.from, s.recipients, s.addresses, s.queueID = origin{}, nil, 0, ""
	s.decided, s.verdict, s.message, s.refusal = false, verdict{}, nil, nil
	s.conn.setBusy(false)
}

// collect takes the macros of a stage. They come stage by stage, and the queue
// id only once the first recipient was accepted.
func (s *session) collect(m *milter.Modifier) {
	if v := macro(m, "client_addr"); v != "" {
		s.client = v
	}
	if v := macro(m, "i"); v != "" {
		s.queueID = v
	}
}

// macro reads a macro; long names are sent in braces.
func macro(m *milter.Modifier, name string) string {
	if v, ok := m.Macros["{"+name+"}"]; ok {
		return v
	}
	return m.Macros[name]
}

// Connect tells the client of the connection.
func (s *session) Connect(_, family string, _ uint16, addr net.IP, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	if addr != nil && family != "unix" {
		s.client = addr.String()
	}
	s.collect(m)
	return nil, nil
}

// Helo tells how the client named itself.
func (s *session) Helo(name string, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	s.helo = name
	s.collect(m)
	return nil, nil
}

// MailFrom begins a message.
func (s *session) MailFrom(from string, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	s.reset()
	s.collect(m)
	if !s.server.dir.Loaded() {
		s.refusal = notReady
	}
	s.from = origin{client: s.client, login: macro(m, "auth_authen"), sender: from}
	return nil, nil
}

// RcptTo tells one recipient that Postfix accepts.
func (s *session) RcptTo(to string, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	s.collect(m)
	if s.addresses += recordCost(to); s.addresses > maxEnvelope {
		s.refusal = tooMany
	} else {
		s.recipients = append(s.recipients, to)
	}
	return nil, nil
}

// recordCost is an upper bound of what an address takes in a record's JSON
// list, where unusual bytes are escaped.
func recordCost(address string) int {
	n := 16
	for _, c := range []byte(address) {
		if n++; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			n += 5
		}
	}
	return n
}

// begin decides on the message when its content begins.
func (s *session) begin(m *milter.Modifier) {
	s.collect(m)
	if s.decided {
		return
	}
	s.conn.setBusy(true)
	s.decided = true
	if s.refusal != nil {
		return
	}
	s.verdict = decide(s.server.dir, s.from, s.recipients)
	if s.verdict.covered {
		s.message = &message{spool: archive.NewSpool(s.server.spoolDir, s.server.maxBytes)}
	}
}

// Header takes one header field.
func (s *session) Header(name, value string, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	clear(m.Headers) // go-milter keeps all it has seen: unbounded, and not needed
	s.begin(m)
	if s.message != nil {
		s.message.header(name, value)
	}
	return nil, nil
}

// Headers is the end of the header.
func (s *session) Headers(_ textproto.MIMEHeader, m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	s.begin(m)
	if s.message != nil {
		s.message.endOfHeader()
	}
	return nil, nil
}

// BodyChunk takes a piece of the body.
func (s *session) BodyChunk(chunk []byte, _ *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	if s.message != nil {
		s.message.body(chunk)
	}
	return nil, nil
}

// Body is the end of the message, and the only answer: archived, then let
// through. A message that is nobody's is let through as it is.
func (s *session) Body(m *milter.Modifier) (_ milter.Response, err error) {
	defer s.guard(&err)
	defer s.reset()
	s.collect(m)
	switch {
	case !s.decided:
		return s.refuse(noOrder), nil
	case s.refusal != nil:
		return s.refuse(s.refusal), nil
	case s.message == nil:
		s.server.metrics.messages.WithLabelValues(string(s.verdict.direction), "passed").Inc()
		return milter.RespAccept, nil
	}
	begin := time.Now()
	id, err := s.store()
	s.server.metrics.seconds.Observe(time.Since(begin).Seconds())
	direction := string(s.verdict.direction)
	if err != nil {
		if !errors.Is(err, archive.ErrTooLarge) { // which is the message's fault
			s.server.setTrouble(err)
		}
		s.server.metrics.messages.WithLabelValues(direction, "refused").Inc()
		return s.refuse(trouble(err)), nil
	}
	if err := m.InsertHeader(0, idHeader, " "+id.String()); err != nil {
		return nil, fmt.Errorf("insert %s: %w", idHeader, err)
	}
	s.server.metrics.messages.WithLabelValues(direction, "archived").Inc()
	return milter.RespAccept, nil
}

// store appends the message to the archive and returns when it is durable.
func (s *session) store() (uuid.UUID, error) {
	if s.message.err != nil {
		return uuid.Nil, s.message.err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("make an id: %w", err)
	}
	e := &archive.Envelope{ID: id, Received: time.Now().UTC().Truncate(time.Microsecond), Direction: s.verdict.direction,
		Sender: s.from.sender, Recipients: s.recipients, Mailboxes: s.verdict.mailboxes,
		Client: s.client, Helo: s.helo, SASLUser: s.from.login, QueueID: s.queueID, Route: s.verdict.route}
	// A message at its end is not cut off by the end of the service.
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	if _, err := s.server.archive.Append(ctx, e, s.message.spool); err != nil {
		return id, err
	}
	s.server.setTrouble(nil)
	s.server.metrics.bytes.WithLabelValues(string(e.Direction)).Add(float64(s.message.spool.Size()))
	s.server.log.Info("archived", "id", id, "queue_id", s.queueID, "direction", e.Direction, "bytes", s.message.spool.Size(), "recipients", len(s.recipients))
	return id, nil
}

// Abort forgets the message, not the connection. It also comes after a
// message that was accepted: that is no rollback.
func (s *session) Abort(*milter.Modifier) (err error) {
	defer s.guard(&err)
	s.reset()
	return nil
}

// trouble is the answer to an error of archiving.
func trouble(err error) *refusal {
	if errors.Is(err, archive.ErrTooLarge) {
		return &refusal{"size", "452 4.3.4 Message too large for the archive", err}
	}
	return &refusal{"archive", "451 4.3.0 Message could not be archived, try again later", err}
}

// refuse answers with a temporary failure.
func (s *session) refuse(r *refusal) milter.Response {
	s.server.metrics.refused.WithLabelValues(r.reason).Inc()
	s.server.log.Warn("refused for now", "reason", r.reason, "queue_id", s.queueID, "error", r.cause)
	return milter.NewResponseStr(byte(milter.ActReplyCode), r.reply)
}

// guard turns a panic into the end of this connection, which Postfix answers
// with 451.
func (s *session) guard(err *error) {
	if p := recover(); p != nil {
		s.server.metrics.panics.Inc()
		s.server.log.Error("panic in a milter connection; it is closed", "queue_id", s.queueID, "panic", p, "stack", string(debug.Stack()))
		*err = errPanic
	}
}
