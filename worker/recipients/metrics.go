package recipients

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what was asked.
type Metrics struct {
	Asked  *prometheus.CounterVec // by answer
	Errors prometheus.Counter
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Asked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_worker_recipients_asked_total",
			Help: "Addresses that primaries were asked for, by what they said; trouble is a session that failed."}, []string{"answer"}),
		Errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_recipients_errors_total",
			Help: "Passes that were broken off, mostly for want of PostgreSQL."}),
	}
	reg.MustRegister(m.Asked, m.Errors)
	return m
}
