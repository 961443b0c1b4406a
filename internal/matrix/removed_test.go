package matrix

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"understudy/internal/directory"
	"understudy/internal/stack"
)

// TestRemovedDomain: domains are removed while their mail is queued. From then
// on it is mail like any other: it follows the MX of its domain to wherever
// the customer has gone, and where that leads nowhere, or back to this
// gateway, its sender is told. Nothing is lost without a word, and nothing new
// is taken.
func TestRemovedDomain(t *testing.T) {
	elsewhere, internet := listenMX(t), listenMX(t)
	resolve(t, dns, zone{
		"moved.test":         {mx: []string{"mx.moved.test"}},
		"mx.moved.test":      {a: elsewhere.ip},
		"stays.test":         {mx: []string{"gateway.stays.test"}},
		"gateway.stays.test": {a: [4]byte{127, 0, 0, 1}},
		"internet.test":      {mx: []string{"mx.internet.test"}},
		"mx.internet.test":   {a: internet.ip},
	})
	names := []string{"moved.test", "stays.test", "gone.test"}
	w := &queuedWorld{primaries: map[string]*primary{}}
	var domains []*directory.Domain
	for _, name := range names {
		w.primaries[name] = listen(t, "127.0.0.1:0", later("mail", "451 4.3.0 try later"))
		domains = append(domains, &directory.Domain{Name: name, Primaries: []string{w.primaries[name].addr}, Activation: directory.Manual})
		w.boxes = append(w.boxes, "ana@"+name)
	}
	w.world = begin(t, still, domains, w.boxes, stack.Variables{"postfix_relayhost": ""})
	for _, name := range names {
		w.message(t, "sender-"+name+"@internet.test", "queued", "ana@"+name)
	}
	w.deferred(t, len(names))
	for _, name := range names {
		if _, err := w.stack.CLI(t.Context(), "", "domain", "remove", name, "--yes"); err != nil {
			t.Fatal(err)
		}
	}
	socket := "socketmap:unix:" + filepath.Join(w.stack.Dir(), "postfix", "queue", "sidecar", "socketmap") + ":relay_domains"
	until(t, "policyd knows", func() bool {
		out, err := exec.Command("postmap", "-c", w.stack.Info.PostfixConfig, "-q", "gone.test", socket).CombinedOutput()
		var exit *exec.ExitError
		return errors.As(err, &exit) && len(out) == 0 // NOTFOUND, and no trouble
	})
	const bounce = "Undelivered Mail Returned to Sender"
	until(t, "an empty queue", func() bool { // qmgr remembers the last address it resolved for 30 s
		if out, err := exec.Command("postqueue", "-c", w.stack.Info.PostfixConfig, "-f").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		all, err := listQueue(w.stack.Info.PostfixConfig)
		return err == nil && len(all) == 0
	})
	until(t, "the senders are told", func() bool { // qmgr takes a notification a moment after its cause left the queue
		return internet.copies(bounce, "sender-stays.test@internet.test") > 0 && internet.copies(bounce, "sender-gone.test@internet.test") > 0
	})
	for _, name := range names {
		arrived, told := 0, 1
		if name == "moved.test" {
			arrived, told = 1, 0
		}
		if n := elsewhere.copies("queued", "ana@"+name); n != arrived {
			t.Errorf("%s: %d copies at its new server, want %d", name, n, arrived)
		}
		if n := internet.copies(bounce, "sender-"+name+"@internet.test"); n != told {
			t.Errorf("%s: the sender was told %d times, want %d", name, n, told)
		}
		if n := len(w.primaries[name].all()); n != 0 {
			t.Errorf("%s: its old primary took %d messages", name, n)
		}
		if no, _, err := w.send("s@internet.test", []string{"ana@" + name}, "new", 0); err != nil || no["ana@"+name] != refused {
			t.Errorf("%s: new mail: %v, %v; want it refused", name, no, err)
		}
	}
}

// mailExchanger is a primary at port 25 of some address of loopback.
type mailExchanger struct {
	*primary
	ip [4]byte
}

func listenMX(t *testing.T) mailExchanger {
	t.Helper()
	for i := byte(2); i < 250; i++ {
		ip := [4]byte{127, 78, byte(os.Getpid() % 250), i}
		at := net.JoinHostPort(net.IP(ip[:]).String(), "25")
		l, err := net.Listen("tcp", at)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return mailExchanger{listen(t, at, script{}), ip}
	}
	t.Fatal("no free address")
	return mailExchanger{}
}
