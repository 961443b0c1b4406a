package archive

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	appendSeconds, syncSeconds, batch prometheus.Histogram
	records, rawBytes, bytes, stored  prometheus.Counter
	sealed, recovered, sealErrors     prometheus.Counter
	open                              prometheus.Gauge
	errors                            *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_archive_" + name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_archive_" + name, Help: help, Buckets: buckets})
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 16) // 0.5 ms to 16 s
	m := &metrics{
		appendSeconds: histogram("append_seconds", "From the call of Append until the message is durable.", seconds),
		syncSeconds:   histogram("sync_seconds", "Duration of fdatasync of a segment.", seconds),
		batch:         histogram("batch_messages", "Messages made durable by one fdatasync.", prometheus.ExponentialBuckets(1, 2, 10)),
		records:       counter("records_total", "Messages appended."),
		rawBytes:      counter("message_bytes_total", "Bytes of the messages appended, before compression."),
		bytes:         counter("segment_bytes_total", "Bytes appended to segments."),
		stored:        counter("uncompressed_messages_total", "Messages kept as they came, because they came faster than mail is compressed."),
		sealed:        counter("segments_sealed_total", "Segments sealed by their writer."),
		recovered:     counter("segments_recovered_total", "Segments of a dead writer that were sealed."),
		sealErrors:    counter("seal_errors_total", "Segments that could not be sealed or recovered at once."),
		open:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_archive_segments_open", Help: "Segments open for writing."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_archive_errors_total",
			Help: "Appends that did not succeed, by kind."}, []string{"kind"}),
	}
	if reg != nil {
		reg.MustRegister(m.appendSeconds, m.syncSeconds, m.batch, m.records, m.rawBytes, m.bytes, m.stored,
			m.sealed, m.recovered, m.sealErrors, m.open, m.errors)
	}
	return m
}
