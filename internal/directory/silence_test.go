package directory_test

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"understudy/internal/directory"
	"understudy/internal/wait"
)

// lossy is a network between a follower and PostgreSQL that loses one
// connection without a word, as a failover does that nobody is told of.
type lossy struct {
	l    net.Listener
	word atomic.Pointer[string] // lose the connection on which a client says this
	lost atomic.Int32
}

func newLossy(t *testing.T, server string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &lossy{l: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp4", server)
			if err != nil {
				c.Close()
				continue
			}
			t.Cleanup(func() { c.Close(); s.Close() })
			go n.carry(s, c, true)
			go n.carry(c, s, false)
		}
	}()
	return n
}

func (n *lossy) carry(to, from net.Conn, asks bool) {
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		if err != nil {
			to.Close()
			return
		}
		if w := n.word.Load(); asks && w != nil && bytes.Contains(bytes.ToUpper(buf[:k]), []byte(*w)) && n.word.CompareAndSwap(w, nil) {
			n.lost.Add(1)
			return // and nothing is closed
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
	}
}

// TestSilence: a connection that goes silent is given up after ten seconds,
// wherever that happens.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"LISTEN", "BEGIN", "FROM MAILBOX"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, cluster)
			db.example()
			server := net.JoinHostPort("127.0.0.1", strconv.Itoa(db.cluster.Port))
			n := newLossy(t, server)
			cfg, err := pgx.ParseConfig(strings.Replace(db.cluster.URL("understudy_mail", db.name), server, n.l.Addr().String(), 1))
			if err != nil {
				t.Fatal(err)
			}
			n.word.Store(&word)
			d, _ := db.follow("understudy_mail", directory.Follower{Config: cfg})
			wait.True(t, "the first load", d.Loaded)
			if n.lost.Load() != 1 {
				t.Errorf("%d connections were lost", n.lost.Load())
			}
		})
	}
}
