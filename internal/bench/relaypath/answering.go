package relaypath

import (
	"bufio"
	"errors"
	"net"
	"net/textproto"
	"os"

	"github.com/emersion/go-milter"
)

// serveAnswers is a milter at a unix socket that is negotiated as ours is
// (actions and protocol in milter/server.go), is sent the same, and does
// nothing but accept each message at its end: what the milter protocol costs
// without archiving. Close the listener to end it.
func serveAnswers(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { // Postfix's processes are its clients
		return nil, errors.Join(err, l.Close())
	}
	s := &milter.Server{NewMilter: func() milter.Milter { return answering{} }, Actions: milter.OptAddHeader,
		Protocol: milter.OptHeaderLeadingSpace | milter.OptNoConnReply | milter.OptNoHeloReply | milter.OptNoMailReply |
			milter.OptNoRcptReply | milter.OptNoHeaderReply | milter.OptNoEOHReply | milter.OptNoBodyReply |
			milter.OptNoUnknown | milter.OptNoData}
	go s.Serve(buffered{l}) //nolint:errcheck // ends with the listener
	return l, nil
}

// buffered reads ahead, as ours does: go-milter reads each packet in two
// pieces.
type buffered struct{ net.Listener }

func (l buffered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &bufferedConn{c, bufio.NewReaderSize(c, 4<<10)}, nil
}

type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// answering says nothing until the end of a message: no other answer was
// negotiated.
type answering struct{}

func (answering) Connect(string, string, uint16, net.IP, *milter.Modifier) (milter.Response, error) {
	return nil, nil
}
func (answering) Helo(string, *milter.Modifier) (milter.Response, error)     { return nil, nil }
func (answering) MailFrom(string, *milter.Modifier) (milter.Response, error) { return nil, nil }
func (answering) RcptTo(string, *milter.Modifier) (milter.Response, error)   { return nil, nil }
func (answering) Header(_, _ string, m *milter.Modifier) (milter.Response, error) {
	clear(m.Headers) // as ours does: go-milter keeps all it has seen
	return nil, nil
}
func (answering) Headers(textproto.MIMEHeader, *milter.Modifier) (milter.Response, error) {
	return nil, nil
}
func (answering) BodyChunk([]byte, *milter.Modifier) (milter.Response, error) { return nil, nil }
func (answering) Body(*milter.Modifier) (milter.Response, error)              { return milter.RespAccept, nil }
func (answering) Abort(*milter.Modifier) error                                { return nil }
