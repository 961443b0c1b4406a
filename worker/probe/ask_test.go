package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAsk(t *testing.T) {
	t.Parallel()
	const here, gone, full = "ana@example.test", "gone@example.test", `"a b"@example.test`
	mx := server(t, smtp("220 mx.test ESMTP", map[string]string{
		"RCPT TO:<" + gone + ">": "550-5.1.1 no such\r\n550 5.1.1 user", "RCPT TO:<" + full + ">": "452 4.2.2 full", "RCPT TO:<bye@example.test>": "421 4.7.0 enough"}))
	p := &Prober{Helo: "gw.test", Timeout: 15 * time.Second}
	got, err := p.Ask(t.Context(), []string{"127.0.0.1:1", mx}, here, gone, full, "bye@example.test", here)
	want := []Reply{{here, 250, ""}, {gone, 550, "5.1.1 no such 5.1.1 user"}, {full, 452, "4.2.2 full"}, {"bye@example.test", 421, "4.7.0 enough"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	if _, err := p.Ask(t.Context(), []string{"127.0.0.1:1"}, here); err == nil {
		t.Error("nobody there, and no error")
	}
	if got, err := p.Ask(t.Context(), []string{server(t, smtp("220 x", map[string]string{"MAIL": "451 4.3.0 later"}))}, here); err == nil {
		t.Errorf("MAIL refused: %v", got)
	}
	if got, err := p.Ask(t.Context(), []string{mx}, make([]string, 100)...); err != nil || len(got) != MaxAsk {
		t.Errorf("a hundred: %d replies, %v", len(got), err)
	}
}

func TestReplyMeans(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reply   Reply
		unknown bool
	}{
		{Reply{Code: 250}, false},
		{Reply{Code: 550, Text: "5.1.1 no such user"}, true},
		{Reply{Code: 550, Text: "no such user"}, true},
		{Reply{Code: 551, Text: "5.1.6 moved"}, true},
		{Reply{Code: 550, Text: "5.1.10 RESOLVER.ADR.RecipientNotFound"}, true},
		{Reply{Code: 550, Text: "5.4.1 Recipient address rejected: Access denied"}, true},
		{Reply{Code: 554, Text: "Transaction failed"}, false},
		{Reply{Code: 550, Text: "5.7.1 blocked"}, false},
		{Reply{Code: 550, Text: "5.1.8 sender refused"}, false},
		{Reply{Code: 552, Text: "5.2.2 full"}, false},
		{Reply{Code: 450, Text: "4.1.1 later"}, false},
		{Reply{Code: 450, Text: "5.1.1 odd"}, false},
	} {
		if got := tt.reply.Unknown(); got != tt.unknown || tt.reply.Exists() != (tt.reply.Code == 250) {
			t.Errorf("%+v: unknown %v", tt.reply, got)
		}
	}
}
