package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

func (s *Story) normal(ctx context.Context) error {
	ana, stranger := s.user(0), "stranger@internet.test"
	in := newLetter(stranger, ana.Address, "an order")
	if err := send(s.info.SMTP, in.from, []string{in.to}, in.text); err != nil {
		return err
	}
	if err := s.atPrimary(ctx, in); err != nil {
		return err
	}
	s.tell("a message from the internet is in the primary's maildir, byte for byte")
	if err := s.archived(ctx, in, "inbound"); err != nil {
		return err
	}
	s.tell("it is archived as inbound")
	out := newLetter(ana.Address, stranger, "the invoice")
	if err := send(s.info.Primary.SMTP, out.from, []string{out.to}, out.text); err != nil {
		return err
	}
	if err := within(ctx, patience, "at the internet", func() error { return s.once(s.info.Internet.Maildir, out) }); err != nil {
		return err
	}
	s.tell("the primary's user sent a message out through us; it reached the internet")
	if err := s.archived(ctx, out, "outbound"); err != nil {
		return err
	}
	s.tell("it is archived as outbound")
	unknown := newLetter(stranger, "nobody@"+s.info.Domain, "to nobody")
	code, text := refusal(send(s.info.SMTP, unknown.from, []string{unknown.to}, unknown.text))
	if code != 550 || !strings.Contains(text, "5.1.1") {
		return fmt.Errorf("an unknown recipient got %q, want the primary's 550 5.1.1", text)
	}
	s.tell("an unknown recipient is refused with the primary's verdict: %s", firstLine(text))
	return nil
}

func (s *Story) outage(ctx context.Context) error {
	ana, bruno, stranger := s.user(0), s.user(1), "stranger@internet.test"
	if err := shell(ctx, s.info.Primary.Stop); err != nil {
		return err
	}
	s.tell("the primary is stopped")
	begin := time.Now()
	first := newLetter(stranger, ana.Address, "first after the crash")
	if err := send(s.info.SMTP, first.from, []string{first.to}, first.text); err != nil {
		return fmt.Errorf("the very next message: %w", err)
	}
	if err := s.inPortal(ctx, ana, first); err != nil {
		return err
	}
	s.tell("the very next message is readable by IMAP in the portal after %.1f s", time.Since(begin).Seconds())
	if err := popFind(ctx, s.info.POP3, ana.Address, ana.Password, first.token); err != nil {
		return err
	}
	s.tell("and by POP3")
	if err := s.noneDeferred(ctx); err != nil {
		return err
	}
	s.tell("nothing was deferred")
	if err := s.waitMode(ctx, "emergency"); err != nil {
		return err
	}
	s.tell("the domain switched to emergency by itself after %.1f s", time.Since(begin).Seconds())
	if err := s.refusesUnregistered(ctx); err != nil {
		return err
	}
	s.tell("an unregistered recipient gets 550 5.1.1")
	answer := newLetter(ana.Address, stranger, "Re: first after the crash")
	if err := submit(s.info.Submission, ana.Address, ana.Password, []string{answer.to}, answer.text); err != nil {
		return err
	}
	if err := within(ctx, patience, "the answer", func() error { return s.once(s.info.Internet.Maildir, answer) }); err != nil {
		return err
	}
	s.tell("a portal user answered through submission; the answer reached the internet")
	colleague := newLetter(ana.Address, bruno.Address, "have you seen this")
	if err := submit(s.info.Submission, ana.Address, ana.Password, []string{colleague.to}, colleague.text); err != nil {
		return err
	}
	if err := s.inPortal(ctx, bruno, colleague); err != nil {
		return err
	}
	s.tell("mail to a colleague is in the colleague's portal INBOX")
	s.left = append(s.left, first, colleague)
	return nil
}

// refusesUnregistered waits until an address that only the primary knows is
// refused for good: the emergency is in force at policyd.
func (s *Story) refusesUnregistered(ctx context.Context) error {
	l := newLetter("stranger@internet.test", "dora@"+s.info.Domain, "to dora")
	return within(ctx, patience, "refusal of an unregistered recipient", func() error {
		code, text := refusal(send(s.info.SMTP, l.from, []string{l.to}, l.text))
		if code != 550 || !strings.Contains(text, "5.1.1") {
			return fmt.Errorf("got %q", text)
		}
		return nil
	})
}

func (s *Story) database(ctx context.Context) error {
	carla, stranger := s.user(2), "stranger@internet.test"
	if err := s.component(ctx, "stop", "postgres"); err != nil {
		return err
	}
	s.tell("PostgreSQL is stopped")
	during := newLetter(stranger, carla.Address, "while the database is down")
	if err := send(s.info.SMTP, during.from, []string{during.to}, during.text); err != nil {
		return fmt.Errorf("mail without PostgreSQL: %w", err)
	}
	if err := s.inPortal(ctx, carla, during); err != nil {
		return err
	}
	s.tell("mail goes on and logins go on: carla read a new message")
	if _, err := signIn(ctx, s.info.Portal, s.info.Operator.Login, s.info.Operator.Password); err == nil || !strings.Contains(err.Error(), "503") {
		return fmt.Errorf("signing in to the website without its database: %v, want status 503", err)
	}
	s.tell("the website says so (503)")
	if err := s.component(ctx, "start", "postgres"); err != nil {
		return err
	}
	if err := s.archived(ctx, during, "inbound"); err != nil {
		return err
	}
	s.tell("PostgreSQL is back; the archive's index caught up")
	s.left = append(s.left, during)
	return nil
}

func (s *Story) back(ctx context.Context) error {
	ana, stranger := s.user(0), "stranger@internet.test"
	moved, deleted := newLetter(stranger, ana.Address, "to be filed"), newLetter(stranger, ana.Address, "to be deleted")
	for _, l := range []letter{moved, deleted} {
		if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
			return err
		}
		if err := s.inPortal(ctx, ana, l); err != nil {
			return err
		}
	}
	if err := s.tidy(moved, deleted); err != nil {
		return err
	}
	s.tell("ana moved one message to a folder and deleted another")
	if err := shell(ctx, s.info.Primary.Start); err != nil {
		return err
	}
	begin := time.Now()
	if err := s.waitMode(ctx, "normal"); err != nil {
		return err
	}
	s.tell("the primary started; the domain returned to normal by itself after %.1f s", time.Since(begin).Seconds())
	for _, l := range s.left {
		if err := s.atPrimary(ctx, l); err != nil {
			return err
		}
	}
	s.tell("the %d messages left in INBOX are at the primary, once, byte for byte below the trace fields", len(s.left))
	for i := range 3 {
		if err := s.emptyInbox(ctx, i); err != nil {
			return err
		}
	}
	s.tell("and gone from the portal")
	for _, l := range []letter{moved, deleted} {
		found, err := maildir(s.primaryMaildir(l.to), l.token)
		if err != nil || len(found) != 0 {
			return fmt.Errorf("what the user moved or deleted was sent: %d copies, %w", len(found), err)
		}
	}
	s.tell("the moved and the deleted one were not sent")
	for _, l := range s.left { // nothing came twice while we looked
		if err := s.once(s.primaryMaildir(l.to), l); err != nil {
			return err
		}
	}
	s.left = nil
	return nil
}

// tidy moves one letter of ana's INBOX to a folder and deletes another.
func (s *Story) tidy(moved, deleted letter) error {
	ana := s.user(0)
	m, err := openMailbox(s.info.IMAP, ana.Address, ana.Password)
	if err != nil {
		return err
	}
	defer m.close()
	uid, _, err := m.find(moved.token)
	if err != nil {
		return err
	}
	if err := m.move(uid, "Kept "+moved.token); err != nil {
		return err
	}
	if uid, _, err = m.find(deleted.token); err != nil {
		return err
	}
	return m.remove(uid)
}

func (s *Story) emptyInbox(ctx context.Context, user int) error {
	u := s.user(user)
	return within(ctx, patience, "empty INBOX of "+u.Address, func() error {
		m, err := openMailbox(s.info.IMAP, u.Address, u.Password)
		if err != nil {
			return err
		}
		defer m.close()
		msgs, err := m.inbox()
		if err == nil && len(msgs) > 0 {
			err = fmt.Errorf("%d messages left", len(msgs))
		}
		return err
	})
}

// byHand plays manual activation twice: to emergency and back from the
// website, then from the command line, each time with mail already deferred.
func (s *Story) byHand(ctx context.Context) (err error) {
	if _, err := s.cli(ctx, "domain", "set", s.info.Domain, "--activation", "manual"); err != nil {
		return err
	}
	defer func() { // leave the stack as it was found
		_, e := s.cli(context.WithoutCancel(ctx), "domain", "set", s.info.Domain, "--activation", "automatic")
		err = errors.Join(err, e, shell(context.WithoutCancel(ctx), s.info.Primary.Start))
	}()
	web, err := signIn(ctx, s.info.Portal, s.info.Operator.Login, s.info.Operator.Password)
	if err != nil {
		return err
	}
	website := func(mode string) error { return web.switchMode(ctx, s.info.Domain, mode, "played by the story") }
	command := func(mode string) error {
		_, err := s.cli(ctx, "mode", s.info.Domain, mode, "--reason", "played by the story")
		return err
	}
	if err := s.thereAndBack(ctx, "the website", website); err != nil {
		return err
	}
	return s.thereAndBack(ctx, "the command line", command)
}

func (s *Story) thereAndBack(ctx context.Context, from string, switchMode func(string) error) error {
	bruno, stranger := s.user(1), "stranger@internet.test"
	if err := shell(ctx, s.info.Primary.Stop); err != nil {
		return err
	}
	deferred := newLetter(stranger, bruno.Address, "deferred for the primary")
	if err := send(s.info.SMTP, deferred.from, []string{deferred.to}, deferred.text); err != nil {
		return err
	}
	if err := s.deferred(ctx, bruno.Address); err != nil {
		return err
	}
	s.tell("activation manual, primary down: the message waits in the queue")
	begin := time.Now()
	if err := switchMode("emergency"); err != nil {
		return err
	}
	if err := s.inPortal(ctx, bruno, deferred); err != nil {
		return err
	}
	s.tell("emergency from %s: the deferred message is in the portal after %.1f s", from, time.Since(begin).Seconds())
	if err := shell(ctx, s.info.Primary.Start); err != nil {
		return err
	}
	// The portal fails too, so that mail waits for it; back to normal must free it.
	if err := s.component(ctx, "stop", "dovecot"); err != nil {
		return err
	}
	waiting := newLetter(stranger, bruno.Address, "deferred for the portal")
	if err := send(s.info.SMTP, waiting.from, []string{waiting.to}, waiting.text); err != nil {
		return err
	}
	if err := s.deferred(ctx, bruno.Address); err != nil {
		return err
	}
	begin = time.Now()
	if err := switchMode("normal"); err != nil {
		return err
	}
	if err := s.atPrimary(ctx, waiting); err != nil {
		return err
	}
	s.tell("back to normal from %s: mail that waited for the portal is at the primary after %.1f s", from, time.Since(begin).Seconds())
	if err := s.component(ctx, "start", "dovecot"); err != nil {
		return err
	}
	if err := s.atPrimary(ctx, deferred); err != nil {
		return err
	}
	s.tell("and the portal's INBOX was drained to the primary")
	return s.emptyInbox(ctx, 1)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
