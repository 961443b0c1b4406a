package rig

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"time"
)

// Socketmap is a client of socketmap_table(5), for what postmap(1) cannot
// tell: the time of each lookup.
type Socketmap struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// DialSocketmap connects to a server's unix socket.
func DialSocketmap(path string) (*Socketmap, error) {
	c, err := net.DialTimeout("unix", path, 30*time.Second)
	if err != nil {
		return nil, err
	}
	return &Socketmap{conn: c, in: bufio.NewReader(c)}, nil
}

// Close closes the connection.
func (c *Socketmap) Close() { c.conn.Close() }

// Lookup asks for a key and returns the reply with its status: "OK value".
func (c *Socketmap) Lookup(table, key string) (string, error) {
	c.out = fmt.Appendf(c.out[:0], "%d:%s %s,", len(table)+1+len(key), table, key)
	if _, err := c.conn.Write(c.out); err != nil {
		return "", err
	}
	var n int
	if _, err := fmt.Fscanf(c.in, "%d:", &n); err != nil || n < 0 || n > 100_000 {
		return "", fmt.Errorf("length %d of a reply: %w", n, err)
	}
	body := make([]byte, n+1)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return "", err
	}
	return string(body[:n]), nil
}

// ServeFixed gives every lookup at the socket the same reply, without reading
// what it asks for: what the protocol itself costs. Close the listener to end.
func ServeFixed(path, reply string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c, fmt.Appendf(nil, "%d:%s,", len(reply), reply))
		}
	}()
	return l, nil
}

// echo answers each write of a client, which is one request.
func echo(c net.Conn, reply []byte) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}
