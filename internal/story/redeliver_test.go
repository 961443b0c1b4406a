package story

import (
	"context"
	"encoding/json"
	"fmt"
)

// redelivered brings an archived message back while the domain is in an
// emergency: it can be read in the portal by IMAP, and the archive has it once.
func (s *Story) redelivered(ctx context.Context) error {
	ana := s.user(0)
	l := newLetter("stranger@internet.test", ana.Address, "lost by the user")
	if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
		return err
	}
	if err := s.atPrimary(ctx, l); err != nil {
		return err
	}
	if err := s.archived(ctx, l, "inbound"); err != nil {
		return err
	}
	if _, err := s.cli(ctx, "mode", s.info.Domain, "emergency", "--reason", "to deliver again"); err != nil {
		return err
	}
	out, err := s.cli(ctx, "archive", "redeliver", "--query", `subject:"`+l.token+`"`, "--wait", "--json")
	if err != nil {
		return err
	}
	var r struct{ Total, Done, Failed int }
	if err := json.Unmarshal(out, &r); err != nil || r.Total != 1 || r.Done != 1 || r.Failed != 0 {
		return fmt.Errorf("redelivery: %s, %w", out, err)
	}
	if err := s.inPortal(ctx, ana, l); err != nil {
		return err
	}
	// What comes after it is indexed after it: had it been archived again, that would show.
	next := newLetter("stranger@internet.test", ana.Address, "after it")
	if err := send(s.info.SMTP, next.from, []string{next.to}, next.text); err != nil {
		return err
	}
	if err := s.archived(ctx, next, "inbound"); err != nil {
		return err
	}
	return s.archived(ctx, l, "inbound") // one message
}
