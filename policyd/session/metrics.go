package session

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the protocols of policyd do.
type Metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	open      *prometheus.GaugeVec
	malformed *prometheus.CounterVec
	panics    prometheus.Counter
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_policyd_requests_total",
			Help: "Requests answered, by protocol, by policy context or socketmap map, and by kind of answer."},
			[]string{"protocol", "question", "answer"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "understudy_policyd_request_seconds",
			Help:    "Time from the last byte of a request to its written answer.",
			Buckets: []float64{5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 100e-3, 1, 10}},
			[]string{"protocol"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "understudy_policyd_open_connections", Help: "Connections open now."}, []string{"protocol"}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_policyd_malformed_total", Help: "Connections closed because a request was malformed or too large."},
			[]string{"protocol"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_policyd_panics_total", Help: "Connections ended by a fault in the program."}),
	}
	reg.MustRegister(m.requests, m.seconds, m.open, m.malformed, m.panics)
	return m
}

func (m *Metrics) answered(protocol string, a Answer, took time.Duration) {
	m.requests.WithLabelValues(protocol, a.Question, a.Label).Inc()
	m.seconds.WithLabelValues(protocol).Observe(took.Seconds())
}
