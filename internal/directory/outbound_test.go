package directory_test

import (
	"path/filepath"
	"testing"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/wait"
)

// TestFollowOutbound: accounts and limits arrive, change and go with their
// domains; only the role that signs people in sees a hash; all is saved.
func TestFollowOutbound(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	db.exec(`INSERT INTO domain (name, primaries) VALUES ('other.test', '{127.0.0.1:25}')`)
	file := filepath.Join(t.TempDir(), "directory.json")
	mail, _ := db.follow("understudy_mail", directory.Follower{})
	auth, stop := db.follow("understudy_auth", directory.Follower{Credentials: true, File: file})
	wait.True(t, "the first load", func() bool { return mail.Loaded() && auth.Loaded() })
	db.exec(`INSERT INTO outbound_account (name, domain_ids, hash, per_hour) SELECT 'relay-1', array_agg(id), '$argon2id$x', 7 FROM domain`)
	db.exec(`INSERT INTO send_limit (id, mailbox_per_day) SELECT id, 9 FROM domain WHERE name = 'other.test'`)
	other := mail.Domains()[1]
	soon(t, "an account", func() bool { return mail.OutboundAccount("Relay-1") != nil && auth.OutboundAccount("relay-1") != nil })
	soon(t, "limits", func() bool { return mail.SendLimit(other.ID).MailboxPerDay == 9 })
	if x := mail.OutboundAccount("relay-1"); x.Hash != "" || x.PerHour != 7 || len(x.DomainIDs) != 2 {
		t.Errorf("the mail services see %+v", x)
	}
	if x := auth.OutboundAccount("relay-1"); x.Hash != "$argon2id$x" {
		t.Errorf("the authentication sees %+v", x)
	}
	may := func(sender string) bool {
		a, err := address.Parse(sender)
		return err == nil && mail.AccountMaySend("RELAY-1", a)
	}
	for sender, want := range map[string]bool{"x@example.test": true, "a+b@other.test": true, "": true, "x@elsewhere.test": false} {
		if may(sender) != want {
			t.Errorf("may send as %q: %v", sender, !want)
		}
	}
	// A domain that goes takes its part with it, and only that.
	db.exec(`DELETE FROM domain WHERE name = 'other.test'`)
	soon(t, "no more of other.test", func() bool {
		return !may("x@other.test") && len(mail.OutboundAccounts(other.ID)) == 0 && mail.SendLimit(other.ID).MailboxPerDay == 0
	})
	if !may("x@example.test") {
		t.Error("the other domain is gone too")
	}
	db.exec(`UPDATE outbound_account SET enabled = false`)
	soon(t, "not enabled", func() bool { return !may("x@example.test") && !may("") })
	db.exec(`UPDATE outbound_account SET name = 'relay-2', enabled = true`)
	soon(t, "another name", func() bool { return mail.OutboundAccount("relay-1") == nil && mail.OutboundAccount("relay-2") != nil })
	wait.True(t, "the other follower", func() bool { return auth.OutboundAccount("relay-2") != nil })
	stop()
	saved := directory.New()
	if err := saved.Load(file); err != nil {
		t.Fatal(err)
	}
	if x := saved.OutboundAccount("relay-2"); x == nil || x.Hash == "" || len(saved.OutboundAccounts(x.DomainIDs[0])) != 1 {
		t.Errorf("saved: %+v", x)
	}
	db.exec(`DELETE FROM outbound_account`)
	soon(t, "none", func() bool {
		return mail.OutboundAccount("relay-2") == nil && len(mail.OutboundAccounts(mail.Domains()[0].ID)) == 0
	})
}
