package rig

import (
	"fmt"
	"time"

	"github.com/emersion/go-smtp"
)

// Send sends a short message whose subject is token, and returns when it was
// accepted.
func Send(address, to, token string) (time.Time, error) {
	c, err := smtp.Dial(address)
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = 2*time.Minute, 2*time.Minute
	if err := c.Mail("a@example.org", nil); err != nil {
		return time.Time{}, err
	}
	if err := c.Rcpt(to, nil); err != nil {
		return time.Time{}, err
	}
	w, err := c.Data()
	if err != nil {
		return time.Time{}, err
	}
	if _, err := fmt.Fprintf(w, "From: a@example.org\r\nTo: %s\r\nSubject: %s\r\n\r\nHello.\r\n", to, token); err != nil {
		return time.Time{}, err
	}
	if err := w.Close(); err != nil {
		return time.Time{}, err
	}
	accepted := time.Now()
	return accepted, c.Quit()
}
