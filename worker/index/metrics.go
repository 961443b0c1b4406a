package index

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the indexer.
type Metrics struct {
	messages, failures, damaged, errors prometheus.Counter
	batch                               prometheus.Histogram
	lagBytes, lagSeconds, locked        prometheus.Gauge
}

// NewMetrics registers the indexer's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics { return newMetrics(r, "index") }

// NewShippedMetrics registers those of the indexer of segments that are in the
// bucket alone.
func NewShippedMetrics(r prometheus.Registerer) *Metrics { return newMetrics(r, "index_shipped") }

func newMetrics(r prometheus.Registerer, what string) *Metrics {
	m := &Metrics{
		messages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_" + what + "_messages_total", Help: "Messages written to the index."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_" + what + "_parse_failures_total", Help: "Messages indexed by their envelope, or partly, because they could not be decoded."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_" + what + "_damaged_bytes_total", Help: "Bytes of the archive skipped as unreadable."}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_worker_" + what + "_errors_total", Help: "Passes over the archive that ended with an error and are tried again."}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "understudy_worker_" + what + "_batch_seconds", Help: "Time to write one batch.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}),
		lagBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "understudy_worker_" + what + "_lag_bytes", Help: "Bytes of the archive that are not in the index yet."}),
		lagSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "understudy_worker_" + what + "_lag_seconds", Help: "Time since the index had everything."}),
	}
	m.locked = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "understudy_worker_" + what + "_encrypted_segments", Help: "Segments that wait because there is no key to their next record (archive_identity_file)."})
	r.MustRegister(m.messages, m.failures, m.damaged, m.errors, m.batch, m.lagBytes, m.lagSeconds, m.locked)
	return m
}

// lag reports how far the index is behind.
func (m *Metrics) lag(bytes int64, since time.Duration) {
	m.lagBytes.Set(float64(bytes))
	if bytes == 0 && since < time.Second {
		since = 0
	}
	m.lagSeconds.Set(since.Seconds())
}
