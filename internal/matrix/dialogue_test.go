package matrix

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// dialogue is one connection.
type dialogue struct {
	*primary
	conn net.Conn
	in   *bufio.Reader
	well bool // ignore the script
	safe bool // encrypted
	mail bool // MAIL was accepted
	rcpt []string
}

var errOver = errors.New("dialogue is over")

// play does what the script says at a stage, or replies as usual.
func (d *dialogue) play(stage, usual string) (accepted bool, err error) {
	do, ok := d.stages[stage]
	if !ok || d.well {
		do = usual
	}
	d.gate.pass(stage, d.stop)
	switch do {
	case hang:
		<-d.stop
		return false, errOver
	case drop:
		return false, errOver
	case garbage:
		io.WriteString(d.conn, "HTTP/1.1 400 Bad Request\r\n\r\n") //nolint:errcheck // over anyway
		io.Copy(io.Discard, d.in)                                  //nolint:errcheck // until the other side gives up
		return false, errOver
	}
	_, err = fmt.Fprintf(d.conn, "%s\r\n", do)
	return do[0] == '2' || do[0] == '3', err
}

func (d *dialogue) serve() {
	if _, err := d.play("banner", "220 primary.test ESMTP"); err != nil {
		return
	}
	for {
		line, err := d.in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := d.command(strings.ToUpper(verb), rest); err != nil {
			return
		}
	}
}

func (d *dialogue) command(verb, rest string) error {
	switch verb {
	case "EHLO":
		_, err := d.play("ehlo", d.hello())
		return err
	case "HELO":
		_, err := d.play("helo", "250 primary.test")
		return err
	case "STARTTLS":
		return d.startTLS()
	case "MAIL":
		d.rcpt = nil
		d.well = d.well || d.probes && strings.HasPrefix(strings.ToUpper(rest), "FROM:<>")
		ok, err := d.play("mail", "250 2.1.0 Ok")
		d.mail = ok
		return err
	case "RCPT":
		if !d.mail { // pipelined after a MAIL that was refused
			_, err := fmt.Fprint(d.conn, "503 5.5.1 no sender\r\n")
			return err
		}
		address, _, _ := strings.Cut(strings.TrimPrefix(rest[len("TO:"):], "<"), ">")
		local, _, _ := strings.Cut(address, "@")
		stage := "rcpt"
		if _, ok := d.stages["rcpt "+local]; ok {
			stage = "rcpt " + local
		}
		ok, err := d.play(stage, "250 2.1.5 Ok")
		if ok {
			d.rcpt = append(d.rcpt, address)
		}
		return err
	case "DATA":
		return d.data()
	case "QUIT":
		io.WriteString(d.conn, "221 2.0.0 Bye\r\n") //nolint:errcheck // over
		return errOver
	}
	_, err := d.play(strings.ToLower(verb), "250 2.0.0 Ok")
	return err
}

// hello lists the extensions.
func (d *dialogue) hello() string {
	lines := append([]string{"primary.test"}, d.script.ehlo...)
	if d.script.ehlo == nil {
		lines = append(lines, "8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING")
	}
	_, scripted := d.stages["starttls"]
	if (d.cert != nil || scripted) && !d.safe {
		lines = append(lines, "STARTTLS")
	}
	last := len(lines) - 1
	return "250-" + strings.Join(lines[:last], "\r\n250-") + "\r\n250 " + lines[last]
}

func (d *dialogue) startTLS() error {
	ok, err := d.play("starttls", "220 2.0.0 Go ahead")
	if err != nil || !ok {
		return err
	}
	if do, ok := d.stages["tls"]; ok { // in the handshake
		_, err := d.play("tls", do)
		return err
	}
	if d.cert == nil {
		_, err := d.play("tls", "503 5.5.1 no certificate")
		return err
	}
	c := tls.Server(d.conn, &tls.Config{Certificates: []tls.Certificate{*d.cert}})
	if err := c.Handshake(); err != nil {
		return err
	}
	d.conn, d.in, d.safe = c, bufio.NewReader(c), true
	return nil
}

// data takes a message; what it keeps of it is the token.
func (d *dialogue) data() error {
	if len(d.rcpt) == 0 {
		_, err := fmt.Fprint(d.conn, "554 5.5.1 no valid recipients\r\n")
		return err
	}
	if ok, err := d.play("data", "354 Go ahead"); err != nil || !ok {
		return err
	}
	var token string
	var size int64
	for {
		line, err := d.in.ReadString('\n')
		if err != nil {
			return err
		}
		if line == ".\r\n" {
			break
		}
		if after, ok := strings.CutPrefix(line, "Subject: "); ok && token == "" {
			token = strings.TrimSpace(after)
		}
		size += int64(len(line))
		if _, ok := d.stages["body"]; ok && size > d.after {
			_, err := d.play("body", "")
			return err
		}
	}
	d.mu.Lock()
	if do := d.stages["done"]; d.well || do == "" || do[0] == '2' || do[0] == '(' { // a hang or drop after the dot: it has the mail
		for _, r := range d.rcpt {
			d.accepted[token+" "+r]++
		}
		d.tls[token] = d.safe
	}
	d.mu.Unlock()
	_, err := d.play("done", "250 2.0.0 Taken")
	return err
}
