package matrix

// three is the outcome for the two usual recipients, whose mail goes by
// relay-auto, and for one who is not registered, by relay-hold.
func three(registered, dora outcome) map[string]outcome {
	return map[string]outcome{"ana": registered, "bruno": registered, "dora": dora}
}

// refusals: which 5xx bounce, and which wait or fall back because they speak
// of the server, or may (docs/detection.md).
var refusals = []row{
	{id: "full-rcpt", name: "RCPT 552 5.3.1 (disk full)", script: later("rcpt", "552 5.3.1 disk full"), want: three(portalHas, queued)},
	{id: "full-done", name: "552 5.3.1 after the dot (disk full)", script: at("done", "552 5.3.1 disk full"), want: three(portalHas, queued)},
	{id: "full-mx", name: "MX, 552 5.3.1 after the dot (disk full)", script: at("done", "552 5.3.1 disk full"), primaries: named("mx:good.dns.test"), want: three(portalHas, queued)},
	{id: "bare-552-rcpt", name: "RCPT 552 without a reason", script: later("rcpt", "552 refused"), want: three(queued, queued)},
	{id: "bare-552-done", name: "552 without a reason after the dot", script: at("done", "552 refused"), want: three(queued, queued)},
	{id: "bare-554-rcpt", name: "RCPT 554 without a reason", script: later("rcpt", "554 refused"), want: three(queued, queued)},
	{id: "bare-554-done", name: "554 without a reason after the dot", script: at("done", "554 Transaction failed"), want: three(queued, queued)},
	{id: "bare-554-mx", name: "MX, 554 without a reason after the dot", script: at("done", "554 Transaction failed"), primaries: named("mx:good.dns.test"), want: three(queued, queued)},
	{id: "bare-550-rcpt", name: "RCPT 550 without a reason", script: later("rcpt", "550 refused"), want: three(bounced, bounced)},
	{id: "large-rcpt", name: "RCPT 552 5.3.4 (message too large)", script: later("rcpt", "552 5.3.4 too large"), want: three(bounced, bounced)},
	{id: "large-done", name: "552 5.3.4 after the dot (message too large)", script: at("done", "552 5.3.4 too large"), want: three(bounced, bounced)},
	{id: "unknown-rcpt", name: "RCPT 550 5.1.1 (unknown)", script: later("rcpt", "550 5.1.1 unknown"), want: three(bounced, bounced)},
	{id: "unknown-done", name: "550 5.1.1 after the dot (unknown)", script: at("done", "550 5.1.1 unknown"), want: three(bounced, bounced)},
	{id: "policy-rcpt", name: "RCPT 550 5.7.1 (policy)", script: later("rcpt", "550 5.7.1 refused"), want: three(bounced, bounced)},
	{id: "policy-done", name: "554 5.7.1 after the dot (policy)", script: at("done", "554 5.7.1 refused"), want: three(bounced, bounced)},
}
