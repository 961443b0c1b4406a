package matrix

import (
	"net"
	"slices"
	"testing"
	"time"

	"understudy/internal/blackhole"
)

// outcome is what becomes of a message for one recipient.
type outcome string

const (
	portalHas  outcome = "portal"
	primaryHas outcome = "primary"
	bounced    outcome = "bounce"      // the sender is told by a message of ours
	queued     outcome = "queue"       // for the primary
	refused    outcome = "550 at RCPT" // the sender's own server tells them
	putOff     outcome = "450 at RCPT" // the sender's own server keeps it
)

// row is one way in which a primary can behave.
type row struct {
	id, name  string
	script    script
	primaries func(t *testing.T, w *ways, r *row) []string // nil: one that follows the script
	policy    string                                       // TLS policy for the (only) primary
	octets    int                                          // of the message's body; 0: few
	want      map[string]outcome                           // by local part; dora is not registered
	twice     bool                                         // the primary may have the message too
	wait      time.Duration                                // the timeout that has to pass
	setting   string                                       // and its name
	null      bool                                         // the message has the null sender
	encrypted bool                                         // the primary must get it by TLS

	primary *primary // the one that follows the script
}

func (r *row) domain() string { return r.id + ".test" }

// both is the same outcome for the two usual recipients.
func both(o outcome) map[string]outcome { return map[string]outcome{"ana": o, "bruno": o} }

// at scripts one stage.
func at(stage, do string) script { return script{stages: map[string]string{stage: do}} }

// later scripts one stage for deliveries; verification is served well.
func later(stage, do string) script {
	return script{stages: map[string]string{stage: do}, probes: true}
}

var rows = slices.Concat(failures, refusals)

var failures = []row{
	{id: "healthy", name: "works", want: both(primaryHas)},

	{id: "refused", name: "refuses connections", primaries: fixed("127.0.0.1:1"), want: both(portalHas)},
	{id: "syn-drop", name: "swallows packets", primaries: full, want: both(portalHas), wait: timeout, setting: "connect"},
	{id: "unresolvable", name: "has a name that does not exist", primaries: fixed("gone.dns.test:25"), want: both(portalHas)},
	{id: "servfail", name: "has a name whose DNS is broken", primaries: fixed("servfail.dns.test:25"), want: both(portalHas)},
	{id: "dns-silent", name: "has a name whose DNS says nothing", primaries: fixed("silent.dns.test:25"), want: both(portalHas), wait: timeout, setting: "the resolver's"},

	{id: "banner-421", name: "banner 421", script: at("banner", "421 4.3.2 going down"), want: both(portalHas)},
	{id: "banner-554", name: "banner 554", script: at("banner", "554 5.3.2 no service"), want: both(portalHas)},
	{id: "banner-hang", name: "no banner", script: at("banner", hang), want: both(portalHas), wait: timeout, setting: "helo"},
	{id: "banner-drop", name: "closes before the banner", script: at("banner", drop), want: both(portalHas)},
	{id: "banner-garbage", name: "banner that is no SMTP", script: at("banner", garbage), want: both(portalHas), wait: timeout, setting: "helo"},

	{id: "ehlo-421", name: "EHLO 421", script: at("ehlo", "421 4.3.2 going down"), want: both(portalHas)},
	{id: "ehlo-hang", name: "EHLO hang", script: at("ehlo", hang), want: both(portalHas), wait: timeout, setting: "helo"},
	{id: "ehlo-drop", name: "EHLO drop", script: at("ehlo", drop), want: both(portalHas)},
	{id: "ehlo-502", name: "EHLO 502, HELO works", script: at("ehlo", "502 5.5.1 what?"), want: both(primaryHas)},

	{id: "mail-451", name: "MAIL 451", script: at("mail", "451 4.3.0 try later"), want: both(portalHas)},
	{id: "mail-452", name: "MAIL 452 (disk full)", script: at("mail", "452 4.3.1 insufficient storage"), want: both(portalHas)},
	{id: "mail-hang", name: "MAIL hang", script: later("mail", hang), want: both(portalHas), wait: timeout, setting: "mail"},

	{id: "rcpt-421", name: "RCPT 421", script: at("rcpt", "421 4.3.2 going down"), want: both(portalHas)},
	{id: "rcpt-drop", name: "RCPT drop", script: at("rcpt", drop), want: both(portalHas)},
	{id: "rcpt-452", name: "RCPT 452 (mailbox full)", script: at("rcpt", "452 4.2.2 over quota"), want: both(portalHas)},
	{id: "rcpt-450", name: "RCPT 450 (greylisting)", script: at("rcpt", "450 4.7.1 greylisted"), want: both(portalHas)},
	{id: "rcpt-hang", name: "RCPT hang", script: later("rcpt", hang), want: both(portalHas), wait: timeout, setting: "rcpt"},
	{id: "rcpt-one-450", name: "RCPT 450 for bruno alone", script: at("rcpt bruno", "450 4.2.1 locked"), want: map[string]outcome{"ana": primaryHas, "bruno": portalHas}},
	{id: "rcpt-mixed", name: "RCPT 450 for bruno, 550 for carla", script: script{probes: true, stages: map[string]string{"rcpt bruno": "450 4.2.1 locked", "rcpt carla": "550 5.1.1 unknown"}},
		want: map[string]outcome{"ana": primaryHas, "bruno": portalHas, "carla": bounced}},
	{id: "unregistered", name: "MAIL 451, and a recipient who is not registered", script: later("mail", "451 4.3.0 try later"),
		want: map[string]outcome{"ana": portalHas, "bruno": portalHas, "dora": queued}},

	{id: "unregistered-down", name: "refuses connections, and a recipient who is not registered", primaries: fixed("127.0.0.1:1"),
		want: map[string]outcome{"ana": portalHas, "bruno": portalHas, "dora": putOff}},

	{id: "data-451", name: "DATA 451", script: at("data", "451 4.3.0 try later"), want: both(portalHas)},
	{id: "data-hang", name: "DATA hang", script: at("data", hang), want: both(portalHas), wait: timeout, setting: "data_init"},
	{id: "body-drop", name: "drop inside DATA", script: at("body", drop), want: both(portalHas)},
	{id: "body-killed", name: "killed within a transfer of 20 MB", script: script{stages: map[string]string{"body": drop}, after: 10 << 20}, octets: 20 << 20, want: both(portalHas)},
	{id: "body-hang", name: "takes no more data", script: at("body", hang), octets: 12 << 20, want: both(portalHas), wait: timeout, setting: "data_xfer"},

	{id: "done-451", name: "451 after the dot", script: at("done", "451 4.3.0 try later"), want: both(portalHas)},
	{id: "done-drop", name: "drop after the dot", script: at("done", drop), want: both(portalHas), twice: true},
	{id: "done-hang", name: "hang after the dot", script: at("done", hang), want: both(portalHas), twice: true, wait: timeout, setting: "data_done"},

	{id: "tls-may", name: "TLS offered", script: script{cert: &stranger}, want: both(primaryHas), encrypted: true},
	{id: "tls-454", name: "STARTTLS 454 (`may`)", script: at("starttls", "454 4.7.0 not now"), want: both(primaryHas)},
	{id: "tls-garbage", name: "garbage in the TLS handshake (`may`)", script: script{stages: map[string]string{"starttls": "220 go", "tls": garbage}}, want: both(portalHas), wait: timeout, setting: "helo"},
	{id: "tls-hang", name: "hang in the TLS handshake", script: script{stages: map[string]string{"starttls": "220 go", "tls": hang}}, want: both(portalHas), wait: timeout, setting: "helo"},
	{id: "tls-missing", name: "no STARTTLS (`encrypt`)", policy: "encrypt", want: both(portalHas)},
	{id: "tls-encrypt", name: "any certificate (`encrypt`)", script: script{cert: &stranger}, policy: "encrypt", want: both(primaryHas), encrypted: true},
	{id: "tls-secure", name: "the right certificate (`secure`)", script: script{cert: &trusted}, policy: "secure match=primary.test", want: both(primaryHas), encrypted: true},
	{id: "tls-stranger", name: "a certificate of nobody's CA (`secure`)", script: script{cert: &stranger}, policy: "secure match=primary.test", want: both(portalHas)},
	{id: "tls-other", name: "a certificate for another name (`secure`)", script: script{cert: &trusted}, policy: "secure match=other.test", want: both(portalHas)},

	{id: "ipv6", name: "IPv6, works", primaries: ipv6, want: both(primaryHas)},
	{id: "ipv6-refused", name: "IPv6, refuses connections", primaries: fixed("[::1]:1"), want: both(portalHas)},
	{id: "list", name: "two primaries, the first refuses connections", primaries: firstGone("127.0.0.1:1"), want: both(primaryHas)},
	{id: "list-syn-drop", name: "two primaries, the first swallows packets", primaries: firstFull, want: both(primaryHas), wait: timeout, setting: "connect"},
	{id: "list-gone", name: "two primaries, both refuse connections", primaries: fixed("127.0.0.1:1", "[::1]:1"), want: both(portalHas)},
	{id: "name", name: "a host name (A record)", primaries: named("host.dns.test"), want: both(primaryHas)},
	{id: "mx", name: "MX, works", primaries: named("mx:good.dns.test"), want: both(primaryHas)},
	{id: "mx-second", name: "MX, the first host refuses connections", primaries: named("mx:second.dns.test"), want: both(primaryHas)},
	{id: "mx-gone", name: "MX, all hosts refuse connections", primaries: fixed("mx:refused.dns.test:1"), want: both(portalHas)},
	{id: "mx-no-host", name: "MX names a host that does not exist", primaries: fixed("mx:nohost.dns.test"), want: both(portalHas)},
	{id: "mx-unresolvable", name: "MX of a name that does not exist", primaries: fixed("mx:gone.dns.test"), want: both(portalHas)},
	{id: "mx-servfail", name: "MX, DNS is broken", primaries: fixed("mx:servfail.dns.test"), want: both(portalHas)},
	{id: "mx-null", name: "null MX", primaries: fixed("mx:null.dns.test"), want: both(portalHas)},
	{id: "mx-loop", name: "MX is this gateway itself", primaries: fixed("mx:loop.dns.test"), want: both(putOff)},

	{id: "verified-550", name: "RCPT 550 when asked at RCPT", script: at("rcpt", "550 5.1.1 unknown"), want: both(refused)},
	{id: "ehlo-550", name: "EHLO and HELO 550, recipient verified before", script: script{stages: map[string]string{"ehlo": "550 go away", "helo": "550 go away"}, healthy: 2}, want: both(queued)},
	{id: "mail-550", name: "MAIL 550, recipient verified before", script: later("mail", "550 5.7.1 sender refused"), want: both(bounced)},
	{id: "rcpt-550", name: "RCPT 550, recipient verified before", script: later("rcpt", "550 5.1.1 unknown"), want: both(bounced)},
	{id: "data-554", name: "DATA 554", script: at("data", "554 5.7.1 refused"), want: both(bounced)},
	{id: "done-554", name: "554 after the dot", script: at("done", "554 5.6.0 refused"), want: both(bounced)},
	{id: "size", name: "announces a SIZE below the message's", script: script{ehlo: []string{"SIZE 100000"}}, octets: 200_000, want: both(bounced)},
	{id: "full-552", name: "MAIL 552 5.3.1 (disk full)", script: later("mail", "552 5.3.1 disk full"), want: both(portalHas)},
	{id: "quota-552", name: "RCPT 552 5.2.2 (mailbox full)", script: later("rcpt bruno", "552 5.2.2 over quota"), want: map[string]outcome{"ana": primaryHas, "bruno": bounced}},
	{id: "null-sender", name: "RCPT 451, and the message is itself a bounce (null sender)", script: at("rcpt", "451 4.3.0 try later"), null: true, want: both(portalHas)},
}

// ways makes the rows' primaries.
type ways struct{ zone zone }

func fixed(primaries ...string) func(*testing.T, *ways, *row) []string {
	return func(*testing.T, *ways, *row) []string { return primaries }
}

// named is a primary by its name in the DNS, at the script's port. The script
// listens at an address that Postfix does not take for its own.
func named(name string) func(*testing.T, *ways, *row) []string {
	return func(t *testing.T, _ *ways, r *row) []string {
		r.primary = listen(t, "127.0.0.5:0", r.script)
		return []string{name + ":" + port(r.primary.addr)}
	}
}

func firstGone(first string) func(*testing.T, *ways, *row) []string {
	return func(t *testing.T, _ *ways, r *row) []string {
		r.primary = listen(t, "127.0.0.1:0", r.script)
		return []string{first, r.primary.addr}
	}
}

func ipv6(t *testing.T, _ *ways, r *row) []string {
	r.primary = listen(t, "[::1]:0", r.script)
	return []string{r.primary.addr}
}

func full(t *testing.T, _ *ways, _ *row) []string { return []string{blackhole.For(t)} }

func firstFull(t *testing.T, w *ways, r *row) []string { return firstGone(blackhole.For(t))(t, w, r) }

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
