package ship

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	segments, bytes, freed, expired prometheus.Counter
	errors                          *prometheus.CounterVec
	seconds                         prometheus.Histogram
	waitingSegments, waitingBytes   prometheus.Gauge
	oldest                          atomic.Int64 // Unix time, 0: none waits
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_ship_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_worker_ship_" + name, Help: help})
	}
	m := &metrics{
		segments: counter("segments_total", "Segments sent to the bucket and verified there."),
		bytes:    counter("bytes_total", "Their bytes."),
		freed:    counter("local_removed_total", "Local segments removed because the bucket has them."),
		expired:  counter("expired_total", "Objects of expired segments deleted from the bucket."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_worker_ship_errors_total",
			Help: "Trouble, by kind: store, refused (credentials), corrupt (a copy that differs), local."}, []string{"kind"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_worker_ship_segment_seconds",
			Help: "Time to send and verify a segment.", Buckets: prometheus.ExponentialBuckets(.05, 2, 15)}),
		waitingSegments: gauge("waiting_segments", "Segments that are due to be sent."),
		waitingBytes:    gauge("waiting_bytes", "Their bytes."),
	}
	for _, kind := range []string{"store", "refused", "corrupt", "local"} {
		m.errors.WithLabelValues(kind)
	}
	// A function, so that it grows while nothing runs.
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_worker_ship_oldest_waiting_seconds",
		Help: "Age of the oldest segment that is due to be sent."}, m.oldestAge)
	r.MustRegister(m.segments, m.bytes, m.freed, m.expired, m.errors, m.seconds, m.waitingSegments, m.waitingBytes, oldest)
	return m
}

func (m *metrics) waiting(n int, bytes int64, oldest time.Time) {
	m.waitingSegments.Set(float64(n))
	m.waitingBytes.Set(float64(bytes))
	if n == 0 {
		m.oldest.Store(0)
	} else {
		m.oldest.Store(oldest.Unix())
	}
}

func (m *metrics) oldestAge() float64 {
	at := m.oldest.Load()
	if at == 0 {
		return 0
	}
	return time.Since(time.Unix(at, 0)).Seconds()
}
