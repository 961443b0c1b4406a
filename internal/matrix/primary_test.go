package matrix

import (
	"bufio"
	"crypto/tls"
	"maps"
	"math"
	"net"
	"sync"
	"testing"
)

// What a scripted primary can do other than reply.
const (
	hang    = "(hang)"    // says nothing more, and keeps the connection
	drop    = "(drop)"    // closes the connection
	garbage = "(garbage)" // sends what is no SMTP
)

// script says what a primary does at a stage. Where it says nothing the
// primary does what a healthy one does.
type script struct {
	stages  map[string]string // stage, or "rcpt LOCAL", to a reply or one of the above
	ehlo    []string          // extensions; STARTTLS is added when there is a certificate
	cert    *tls.Certificate
	healthy int   // so many first connections are served well whatever the script says
	probes  bool  // verification (null sender) is served well, too
	after   int64 // "body": after so many octets
	gate    *gate // may be nil
}

// gate keeps dialogues waiting at a stage until it is opened.
type gate struct {
	stage         string
	reached, open chan struct{}
	once          sync.Once
}

func gateAt(stage string) *gate {
	return &gate{stage: stage, reached: make(chan struct{}), open: make(chan struct{})}
}

// pass waits, at the gate's stage.
func (g *gate) pass(stage string, stop chan struct{}) {
	if g == nil || stage != g.stage {
		return
	}
	g.once.Do(func() { close(g.reached) })
	select {
	case <-g.open:
	case <-stop:
	}
}

// primary is a mail server that follows a script.
type primary struct {
	script
	addr string
	stop chan struct{}

	mu       sync.Mutex
	conns    int
	accepted map[string]int  // copies by "token recipient"
	tls      map[string]bool // by token: it came encrypted
}

// listen starts a primary at an address such as "127.0.0.1:0".
func listen(t *testing.T, at string, s script) *primary {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	p := &primary{script: s, addr: l.Addr().String(), stop: make(chan struct{}), accepted: map[string]int{}, tls: map[string]bool{}}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		close(p.stop)
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			well := p.conns <= p.healthy
			p.mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				done := make(chan struct{})
				defer close(done)
				go func() {
					select {
					case <-p.stop:
						c.Close()
					case <-done:
					}
				}()
				(&dialogue{primary: p, conn: c, in: bufio.NewReader(c), well: well}).serve()
			})
		}
	})
	return p
}

// copies is how often a message was accepted for a recipient.
func (p *primary) copies(token, recipient string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted[token+" "+recipient]
}

// heal makes it serve new connections well.
func (p *primary) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healthy = math.MaxInt
}

// all returns the copies of every message, by "token recipient".
func (p *primary) all() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.accepted)
}

func (p *primary) encrypted(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tls[token]
}
