package main

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
)

// TestByteExactWays sends what easily goes astray on each of the ways that a
// message may come: what is stored is the same, whoever sends it and however.
func TestByteExactWays(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	ways := []struct {
		name    string
		transit bool
		xclient string // as whom, "" as a stranger
		from    string
		how     manner
		send    func(c *client, sender string, message []byte) string
	}{
		{"a stranger", true, "", "example.org", byDATA, sendData},
		{"BDAT", true, "", "example.org", 0, sendChunks(1 << 20)},
		{"BDAT in small chunks", true, "", "example.org", 0, sendChunks(61)},
		{"pipelined, with parameters", true, "", "example.org", byDATA, sendPipelined},
		{"a primary", true, "ADDR=192.0.2.3 HELO=primary.example.test", "example.test", byDATA, sendData},
		{"an outbound account", false, "ADDR=198.51.100.7 LOGIN=relay-1", "example.test", byDATA | stockDrops, sendData},
		{"a portal user", false, "ADDR=198.51.100.7 LOGIN=bruno@example.test", "example.test", stockDrops, sendChunks(5000)},
	}
	messages := nasty()
	type sent struct {
		way, name string
		how       manner
	}
	want := map[string]sent{}
	for i, way := range ways {
		addr := p.smtp
		if way.transit {
			addr = p.transit
		}
		c := connectTo(t, addr)
		if way.xclient != "" {
			for _, command := range []string{"XCLIENT " + way.xclient, "EHLO client.test"} {
				if reply := c.command(command); !strings.HasPrefix(reply, "2") {
					t.Fatalf("%s: %s", command, reply)
				}
			}
		}
		for name, message := range messages {
			sender := fmt.Sprintf("w%dn%d@%s", i, len(want), way.from)
			if reply := way.send(c, sender, message); !strings.HasPrefix(reply, "250") {
				t.Fatalf("%s, %s: %.200q", way.name, name, reply)
			}
			want[sender] = sent{way.name, name, way.how}
		}
	}
	got, equal := readArchive(t, s.archive), 0
	for _, a := range got {
		w, ok := want[a.Sender]
		if !ok {
			t.Errorf("archived but not sent, or twice: %s", a.Sender)
			continue
		}
		delete(want, a.Sender)
		if expected := asPostfixSees(messages[w.name], w.how); a.body != expected {
			t.Errorf("%s, %s: archived with other bytes, first difference:\n%s", w.way, w.name, firstDifference(expected, a.body))
		} else {
			equal++
		}
	}
	if sum := len(ways) * len(messages); len(got) != sum || equal != sum {
		t.Errorf("sent %d = archived %d = equal %d does not hold", sum, len(got), equal)
	}
	checkDelivered(t, p, got)
}

// TestHeadersOfParts: Postfix takes the blanks before a colon out of the headers
// of MIME parts too, unless it is told to leave parts alone.
func TestHeadersOfParts(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	const message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type : text/plain\r\nX\t: y\r\n\r\nA : b\r\n--b--\r\n"
	want := map[string]string{} // by sender
	for sender, way := range map[string]struct{ addr, stored string }{
		"left@example.org":    {p.smtp, message},
		"changed@example.org": {p.parts, strings.NewReplacer("Content-Type : text", "Content-Type: text", "X\t:", "X:").Replace(message)},
	} {
		if reply := connectTo(t, way.addr).send(sender, []byte(message), "ana@example.test"); !strings.HasPrefix(reply, "250") {
			t.Fatalf("%s: %s", sender, reply)
		}
		want[sender] = way.stored
	}
	got := readArchive(t, s.archive)
	if len(got) != len(want) {
		t.Errorf("%d archived", len(got))
	}
	for _, a := range got {
		if a.body != want[a.Sender] {
			t.Errorf("%s: archived with other bytes, first difference:\n%s", a.Sender, firstDifference(want[a.Sender], a.body))
		}
	}
	checkDelivered(t, p, got)
}

func sendData(c *client, sender string, message []byte) string {
	return c.send(sender, message, "ana@example.test")
}

// sendChunks sends as RFC 3030 has it: nothing is stuffed, and chunks end
// anywhere.
func sendChunks(size int) func(c *client, sender string, message []byte) string {
	return func(c *client, sender string, message []byte) string {
		if reply := c.envelope(sender, "ana@example.test"); !strings.HasPrefix(reply, "2") {
			return reply
		}
		for len(message) > size {
			fmt.Fprintf(c.conn, "BDAT %d\r\n%s", size, message[:size]) //nolint:errcheck // the reply tells
			if reply := c.reply(); !strings.HasPrefix(reply, "250") {
				return reply
			}
			message = message[size:]
		}
		fmt.Fprintf(c.conn, "BDAT %d LAST\r\n%s", len(message), message) //nolint:errcheck // the reply tells
		return c.reply()
	}
}

// sendPipelined sends the envelope at once (RFC 2920), with the parameters of
// RFC 3461 and RFC 6152.
func sendPipelined(c *client, sender string, message []byte) string {
	out := bufio.NewWriter(c.conn)
	fmt.Fprintf(out, "MAIL FROM:<%s> BODY=8BITMIME RET=HDRS ENVID=e+3D1 SIZE=%d\r\n"+ //nolint:errcheck // Flush tells
		"RCPT TO:<ana@example.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;Ana+40example.test\r\n", sender, len(message))
	if out.Flush() != nil {
		return ""
	}
	for range 2 {
		if reply := c.reply(); !strings.HasPrefix(reply, "250") {
			return reply
		}
	}
	return c.data(message)
}
