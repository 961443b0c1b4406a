package reroute

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	flushes  prometheus.Counter
	failures prometheus.Counter
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		flushes: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_reroute_flushes_total",
			Help: "Flushes of a domain's deferred mail."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_reroute_failures_total",
			Help: "Rounds in which postqueue failed."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_worker_reroute_seconds",
			Help: "Time from a change of mode to the last round of its re-routing.", Buckets: []float64{.3, 1, 3, 6, 16, 36, 61, 91, 121, 300}}),
	}
	if reg != nil {
		reg.MustRegister(m.flushes, m.failures, m.seconds)
	}
	return m
}
