package drain

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	runs      *prometheus.CounterVec
	messages  *prometheus.CounterVec
	asked     prometheus.Counter
	uncertain prometheus.Counter
	panics    prometheus.Counter
	bytes     prometheus.Counter
	seconds   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_worker_drain_runs_total",
			Help: "Passes over the portal INBOXes of a domain, by outcome."}, []string{"outcome"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_worker_drain_messages_total",
			Help: "Messages offered to primaries: returned, held (refused for good) or deferred."}, []string{"result"}),
		asked: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_drain_mailboxes_asked_total",
			Help: "Mailboxes that the portal was asked about, because they may hold mail."}),
		uncertain: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_drain_uncertain_total",
			Help: "Messages sent again although the primary may have them: a crash or a lost reply. At most so many duplicates."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_drain_panics_total",
			Help: "Panics while draining a mailbox."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_drain_returned_bytes",
			Help: "Size of the messages that were returned."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_worker_drain_message_seconds",
			Help: "Time from fetching a message to its removal or refusal.", Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300}}),
	}
	if reg != nil {
		reg.MustRegister(m.runs, m.messages, m.asked, m.uncertain, m.panics, m.bytes, m.seconds)
	}
	return m
}
