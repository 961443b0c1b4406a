package probe

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"time"
)

// MaxAsk is the most recipients that one Ask names: Postfix and others end a
// session after 20 errors or so and slow down before.
const MaxAsk = 15

// perRecipient is how long a server may think about each: many slow down
// those who name unknown recipients.
const perRecipient = 2 * time.Second

// Reply is what a primary said of one recipient.
type Reply struct {
	Address string
	Code    int    // 250 stands for every 2xx
	Text    string // printable
}

// Exists reports whether the recipient was taken.
func (r *Reply) Exists() bool { return r.Code < 300 }

// Unknown reports whether the reply says that there is no such recipient:
// RFC 3463 X.1.x, or 550 without a reason (RFC 5321 section 4.2.2), or 5.4.1,
// with which Exchange Online refuses whom it does not know. A refusal of us
// or of our sender, a full mailbox and the like say nothing.
func (r *Reply) Unknown() bool {
	m := enhanced.FindStringSubmatch(r.Text)
	switch {
	case r.Code < 500:
		return false
	case m == nil:
		return r.Code == 550
	}
	return m[1] == "5" && (m[2] == "1" && m[3] != "7" && m[3] != "8" || m[2] == "4" && m[3] == "1") // 5.1.7 and 5.1.8 are about the sender
}

// Ask names recipients to the first primary that answers, in one session. It
// may return fewer replies than recipients when the server hangs up.
func (p *Prober) Ask(ctx context.Context, primaries []string, recipients ...string) ([]Reply, error) {
	recipients = recipients[:min(len(recipients), MaxAsk)]
	err := errors.New("no primary")
	for _, primary := range primaries {
		var out []Reply
		if out, err = p.ask(ctx, primary, recipients); err == nil {
			return out, nil
		}
	}
	return nil, fmt.Errorf("ask for recipients: %w", err)
}

func (p *Prober) ask(ctx context.Context, primary string, recipients []string) ([]Reply, error) {
	hosts, err := p.lookUp(ctx, primary)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, (1+patience)*p.Timeout+perRecipient*time.Duration(len(recipients)))
	defer cancel()
	err = fmt.Errorf("%s has no host", primary)
	for _, address := range hosts {
		var s *session
		if s, err = p.open(ctx, address, true); tlsAlert(err) != nil {
			s, err = p.open(ctx, address, false)
		}
		if err != nil {
			continue
		}
		defer s.close()
		return s.ask(recipients)
	}
	return nil, err
}

func (s *session) ask(recipients []string) ([]Reply, error) {
	refusals, err := s.recipients(recipients)
	if err != nil {
		return nil, &stageError{"RCPT", err}
	}
	out := make([]Reply, len(refusals))
	for i, r := range refusals {
		if out[i] = (Reply{Address: recipients[i], Code: 250}); r != nil {
			out[i] = reply(recipients[i], r)
		}
	}
	s.leave()
	return out, nil
}

func reply(address string, r *textproto.Error) Reply {
	return Reply{Address: address, Code: r.Code, Text: printable(r.Msg)}
}
