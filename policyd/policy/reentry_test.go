package policy

import (
	"log/slog"
	"net"
	"strings"
	"testing"
)

// TestGate: connections of this process, which is root's and always may, and
// of nobody.
func TestGate(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, clientPort, _ := net.SplitHostPort(c.LocalAddr().String())
	_, serverPort, _ := net.SplitHostPort(l.Addr().String())
	here := Request{Context: ContextReentry, ClientAddress: "127.0.0.1", ClientPort: clientPort, ServerAddress: "127.0.0.1", ServerPort: serverPort}
	gate, err := NewGate([]string{"postfix"})
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewGate(nil)
	if err != nil {
		t.Fatal(err)
	}
	gone, odd := here, here
	gone.ClientPort, odd.ClientAddress = "1", "unknown"
	for _, tt := range []struct {
		name string
		gate *Gate
		req  Request
		want bool
	}{
		{"ours", gate, here, true},
		{"no such connection", gate, gone, false},
		{"no address", gate, odd, false},
		{"no users named", open, gone, true},
		{"no gate", nil, gone, true},
	} {
		if got := tt.gate.admits(tt.req, log); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if _, err := NewGate([]string{"no-such-user"}); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("unknown user: %v", err)
	}
}
