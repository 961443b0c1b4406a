package redeliver

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	messages  *prometheus.CounterVec
	uncertain prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_worker_redeliver_messages_total",
			Help: "Archived messages offered to servers again: sent, failed (refused for good) or deferred."}, []string{"result"}),
		uncertain: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_redeliver_uncertain_total",
			Help: "Messages sent again although the server may have them: a crash or a lost reply. At most so many duplicates."}),
	}
	if reg != nil {
		reg.MustRegister(m.messages, m.uncertain)
	}
	return m
}
