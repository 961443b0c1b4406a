package directory_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/address"
	"understudy/internal/directory"
)

// filled is a directory without a database: two domains, one of them with
// selected mailboxes.
func filled() *directory.Directory {
	d := directory.New()
	d.Apply(&directory.Change{Full: true, Epoch: "e", Version: 1,
		Domains: []*directory.Domain{
			{ID: 1, Name: "all.test", Scope: directory.ScopeAll, OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32")}},
			{ID: 2, Name: "some.test", Scope: directory.ScopeSelected, OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		},
		Mailboxes: []*directory.Mailbox{
			{ID: 1, DomainID: 1, Address: "ana@all.test"}, {ID: 2, DomainID: 2, Address: "in@some.test", Covered: true},
			{ID: 3, DomainID: 2, Address: "out@some.test"},
		},
		Aliases: []*directory.Alias{{ID: 1, DomainID: 1, Address: "info@all.test", MailboxID: 1}, {ID: 2, DomainID: 1, Address: "far@all.test", MailboxID: 2},
			{ID: 3, DomainID: 1, Address: "dangling@all.test", MailboxID: 99}}})
	return d
}

func TestRecipient(t *testing.T) {
	t.Parallel()
	d := filled()
	for in, want := range map[string]string{
		"ana@all.test":        "ana@all.test covered",
		"ANA+tag@All.Test":    "ana@all.test covered",
		"info@all.test":       "ana@all.test covered",
		"far@all.test":        "in@some.test covered",
		"dangling@all.test":   "- covered",
		"unknown@all.test":    "- covered",
		"in@some.test":        "in@some.test covered",
		"out@some.test":       "out@some.test",
		"unknown@some.test":   "-",
		"ana@sub.all.test":    "not ours",
		"ana@elsewhere.test":  "not ours",
		"\"ana\"@all.test":    "ana@all.test covered",
		"ana@all.test.":       "ana@all.test covered",
		"postmaster@all.test": "- covered",
	} {
		a, err := address.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		r, got := d.Recipient(a), "not ours"
		if r.Domain != nil {
			got = "-"
			if r.Registered {
				got = r.Mailbox.Address
			}
			if r.Covered {
				got += " covered"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestOutbound(t *testing.T) {
	t.Parallel()
	d := filled()
	for in, want := range map[string][]string{
		"192.0.2.1": {"all.test", "some.test"}, "::ffff:192.0.2.1": {"all.test", "some.test"}, "192.0.2.7": {"some.test"},
		"2001:db8::9": {"all.test"}, "198.51.100.1": nil,
	} {
		var got []string
		for _, dom := range d.OutboundDomains(netip.MustParseAddr(in)) {
			got = append(got, dom.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	sender := address.Address{Local: "x", Domain: "all.test"}
	if !d.MayRelay(netip.MustParseAddr("192.0.2.1"), sender) || d.MayRelay(netip.MustParseAddr("192.0.2.7"), sender) {
		t.Error("relaying is allowed by network and sender's domain together")
	}
	// Networks follow changes.
	d.Apply(&directory.Change{Epoch: "e", Version: 2, Domains: []*directory.Domain{{ID: 1, Name: "all.test"}}, Deleted: []directory.Deleted{{Kind: "domain", ID: 2}}})
	for _, ip := range []string{"192.0.2.1", "192.0.2.7", "2001:db8::9"} {
		if n := len(d.OutboundDomains(netip.MustParseAddr(ip))); n != 0 {
			t.Errorf("%s still sends for %d domains", ip, n)
		}
	}
}

// TestApplyInAnyOrder: a name freed and taken again within one change, by a
// row with a lower id too.
func TestApplyInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]int64{{5, 6}, {6, 5}} {
		d := directory.New()
		d.Apply(&directory.Change{Full: true, Domains: []*directory.Domain{{ID: 1, Name: "a.test"}}, Mailboxes: []*directory.Mailbox{{ID: ids[0], DomainID: 1, Address: "x@a.test"}}})
		d.Apply(&directory.Change{Mailboxes: []*directory.Mailbox{{ID: ids[1], DomainID: 1, Address: "x@a.test"}, {ID: ids[0], DomainID: 1, Address: "y@a.test"}}})
		r := d.Recipient(address.Address{Local: "x", Domain: "a.test"})
		if r.Mailbox == nil || r.Mailbox.ID != ids[1] {
			t.Errorf("%v: x is %+v", ids, r.Mailbox)
		}
		d.Apply(&directory.Change{Deleted: []directory.Deleted{{Kind: "mailbox", ID: ids[0]}}})
		if !d.Recipient(address.Address{Local: "x", Domain: "a.test"}).Registered {
			t.Errorf("%v: the deletion of y took x away", ids)
		}
	}
}

// TestReadersSeeWholeChanges: while changes come in, no reader sees half of
// one.
func TestReadersSeeWholeChanges(t *testing.T) {
	t.Parallel()
	d := filled()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := d.Recipient(address.Address{Local: "ana", Domain: "all.test"})
				if !r.Registered || r.Mailbox.Name != "" && r.Mailbox.Name != string(r.Domain.Mode) {
					t.Errorf("half a change: %+v, %+v", r.Domain, r.Mailbox)
					return
				}
			}
		})
	}
	changed := d.Changed()
	for i := range 2000 {
		mode := directory.Mode(fmt.Sprint("mode", i))
		d.Apply(&directory.Change{Full: i%2 == 0, Version: int64(i), Domains: []*directory.Domain{{ID: 1, Name: "all.test", Mode: mode}},
			Mailboxes: []*directory.Mailbox{{ID: 1, DomainID: 1, Address: "ana@all.test", Name: string(mode)}}})
	}
	close(stop)
	wg.Wait()
	select {
	case <-changed:
	default:
		t.Error("changes were not announced")
	}
}
