package reroute

import (
	"context"
	"fmt"
	"strings"

	"understudy/internal/delivery"
)

// nobody is whom nudges are for: Postfix's configuration discards them.
const nobody = "nudge@understudy.invalid"

// nudge makes qmgr resolve another address than those of the domain, and so
// forget the one that it resolved last.
func (w *Rerouter) nudge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nudgeTimeout)
	defer cancel()
	body := strings.NewReader("Subject: forget the address resolved last\r\n\r\n")
	result := w.Delivery.Deliver(ctx, []string{w.Reentry}, delivery.Message{Recipients: []string{nobody}, Body: body})
	if err := result[0].Err; err != nil {
		return fmt.Errorf("nudge qmgr: %w", err)
	}
	return sleep(ctx, nudgeTime)
}
