package monitor

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the monitor.
type Metrics struct {
	probes, switches, events *prometheus.CounterVec
	probeTime                prometheus.Histogram
	errors, held             prometheus.Counter
	domains, vantage         prometheus.Gauge
}

// NewMetrics registers the monitor's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_worker_probes_total", Help: "Probes of primaries, by what they found."}, []string{"class"}),
		switches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_worker_switches_total", Help: "Changes of a domain's mode, by the new mode and who made them."}, []string{"to", "actor"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_worker_evidence_total", Help: "Events seen by policyd, by class."}, []string{"class"}),
		probeTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "understudy_worker_probe_seconds", Help: "Time of one probe.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_monitor_errors_total", Help: "Writes of the monitor that PostgreSQL did not take."}),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_switches_held_total", Help: "Times that a switch had to wait because the primaries of most domains fail, or others are looked at first."}),
		vantage: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "understudy_worker_vantage", Help: "0: clear; 1: most primaries fail, a second look follows; 2: that is confirmed; 3: our own network is down; 4: most answer again, a look follows."}),
		domains: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "understudy_worker_domains", Help: "Domains watched by this worker."}),
	}
	r.MustRegister(m.probes, m.switches, m.events, m.probeTime, m.errors, m.held, m.domains, m.vantage)
	return m
}
