package main

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	messages *prometheus.CounterVec // direction, result
	bytes    *prometheus.CounterVec // direction
	refused  *prometheus.CounterVec // reason
	seconds  prometheus.Histogram
	sessions prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_milter_messages_total",
			Help: "Messages that came to their end, by direction and result (archived, passed, refused)."}, []string{"direction", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_milter_message_bytes_total",
			Help: "Bytes of archived messages as received."}, []string{"direction"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_milter_refused_total",
			Help: "Answers 4xx, by reason."}, []string{"reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_milter_end_of_message_seconds",
			Help: "From the end of a message until the answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18)}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_milter_sessions_open", Help: "Milter connections open."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_milter_panics_total", Help: "Panics that ended a connection."}),
	}
	reg.MustRegister(m.messages, m.bytes, m.refused, m.seconds, m.sessions, m.panics)
	return m
}
