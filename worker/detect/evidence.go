package detect

// Class is what one look at a primary came to.
type Class string

// The classes, kept apart.
const (
	Healthy          Class = "healthy"
	Unreachable      Class = "unreachable"       // no address, refused, no route, connection lost
	Timeout          Class = "timeout"           // no connection or no answer in time
	TLS              Class = "tls"               // STARTTLS accepted, handshake broken
	ServerTempfail   Class = "server-tempfail"   // 4xx at banner, EHLO or MAIL
	ServerReject     Class = "server-reject"     // 5xx at banner, EHLO or MAIL
	RecipientDefer   Class = "recipient-defer"   // 4xx for a recipient: greylisting, a full mailbox
	RecipientRefused Class = "recipient-refused" // 5xx for recipients
	Fallback         Class = "fallback"          // a delivery failed and its message fell back
)

// Down reports whether the class says that the whole server fails.
func (c Class) Down() bool {
	switch c {
	case Unreachable, Timeout, TLS, ServerTempfail, ServerReject:
		return true
	}
	return false
}

// Host is what a probe found of one primary.
type Host struct {
	Host   string `json:"host"`
	Class  Class  `json:"class"`
	Detail string `json:"detail,omitempty"` // printable, for people
	// Recipients is how many the probe named; 0: it ended before.
	Recipients int `json:"recipients,omitempty"`
}

// Evidence is what was seen since the last step.
type Evidence struct {
	Hosts []Host // one probe of every primary; none: no probe
	// Deliveries counts what real deliveries met, by class.
	Deliveries map[Class]int
	Said       string // by the server to the newest of them, printable
	// Accepted counts the recipients for whom mail was taken since
	// State.StormSince; 0 is not known.
	Accepted int
	// Waiting counts those whose mail waits in the queue because it was
	// refused, and the refusal softened; 0 is also not known.
	Waiting int
	// Strangers says that refusals, which name only a host, may be of mail
	// that Accepted does not count: then Waiting alone tells of refusals.
	Strangers bool
}
