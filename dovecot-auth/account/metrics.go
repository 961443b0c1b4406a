package account

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of logins and lookups.
type Metrics struct {
	Logins   *prometheus.CounterVec // by service and result
	Seconds  *prometheus.HistogramVec
	Lookups  *prometheus.CounterVec // by result
	Busy     prometheus.Counter
	Hits     prometheus.Counter
	Lockouts *prometheus.CounterVec // by kind
	BadHash  prometheus.Counter
}

// NewMetrics makes the counters and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Logins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_auth_logins_total",
			Help: "Logins tried, by service and result."}, []string{"service", "result"}),
		Seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "understudy_auth_login_seconds",
			Help: "Time to answer a login.", Buckets: []float64{.001, .005, .01, .02, .05, .1, .2, .5, 1, 2, 4, 5}}, []string{"result"}),
		Lookups: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_auth_lookups_total",
			Help: "Lookups of a mailbox without a password, by result."}, []string{"result"}),
		Busy: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_auth_verifier_busy_total",
			Help: "Logins put off because too many passwords waited for verification."}),
		Hits: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_auth_cache_hits_total",
			Help: "Logins answered from a verification of the last minute."}),
		Lockouts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_auth_lockouts_total",
			Help: "Locks set or prolonged, by kind."}, []string{"kind"}),
		BadHash: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_auth_unusable_hashes_total",
			Help: "Verifications that met an unusable password hash."}),
	}
	reg.MustRegister(m.Logins, m.Seconds, m.Lookups, m.Busy, m.Hits, m.Lockouts, m.BadHash)
	return m
}

// serviceLabel bounds the label's values: the name comes from outside.
func serviceLabel(s string) string {
	switch s {
	case "imap", "pop3", "submission", "lmtp", "sieve", "doveadm":
		return s
	case "smtp":
		return "submission"
	}
	return "other"
}
