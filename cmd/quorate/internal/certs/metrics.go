package certs

import (
	"crypto/x509"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the certificates. A nil Metrics counts nothing.
type Metrics struct {
	expiry    *prometheus.GaugeVec
	rotations prometheus.Counter
	failures  prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "quorate_certificate_expiry_timestamp_seconds",
			Help: "When the certificate in use ends: the one that is served, and the newest CA.",
		}, []string{"certificate"}),
		rotations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_certificate_rotations_total",
			Help: "How often this replica wrote new certificates.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_certificate_failures_total",
			Help: "How often this replica could not look after the certificates.",
		}),
	}
	reg.MustRegister(m.expiry, m.rotations, m.failures)
	return m
}

func (m *Metrics) expires(which string, c *x509.Certificate) {
	if m != nil && c != nil {
		m.expiry.WithLabelValues(which).Set(float64(c.NotAfter.Unix()))
	}
}

func (m *Metrics) rotated() {
	if m != nil {
		m.rotations.Inc()
	}
}

func (m *Metrics) failed() {
	if m != nil {
		m.failures.Inc()
	}
}
