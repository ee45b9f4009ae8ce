package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/quorate/quorate/cmd/quorate/internal/serving"
)

// processMetrics are of the process itself.
type processMetrics struct{ refused, waiting, leads prometheus.Gauge }

func newProcessMetrics(reg prometheus.Registerer) *processMetrics {
	m := &processMetrics{
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_config_refused",
			Help: "1 where the configuration file can't be used, and the one before it is in force.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_config_waiting",
			Help: "How many fields of the configuration file changed that take effect at the next restart.",
		}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_status_leader",
			Help: "1 where this replica runs the status controller.",
		}),
	}
	reg.MustRegister(m.refused, m.waiting, m.leads)
	return m
}

// addMetrics serves what every part registered, client-go's and the runtime's too.
func (p *process) addMetrics(ctx context.Context) error {
	c := &p.config.Metrics
	listener, err := serving.Listen(ctx, "metrics", c.BindAddress)
	if err != nil {
		return err
	}
	all := prometheus.Gatherers{legacyregistry.DefaultGatherer, p.registry}
	server := &serving.Server{Name: "metrics", Listener: listener, Last: true}
	handler := promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	mux := http.NewServeMux()
	if c.Secure {
		pair, err := ownCertificate()
		if err != nil {
			return err
		}
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		handler = authorized(p.client, handler)
	}
	mux.Handle("GET /metrics", handler)
	server.Handler = mux
	p.servers = append(p.servers, server)
	return nil
}

// ownCertificate lasts as long as the process may: whoever scrapes knows us by
// nothing but our address, and we know him by his token.
func ownCertificate() (tls.Certificate, error) {
	maker := &rotator.CertRotator{CAName: "quorate-metrics", CAOrganization: "quorate"}
	now := time.Now()
	made, err := maker.CreateCACert(now.Add(-time.Hour), now.Add(10*365*24*time.Hour))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("serve metrics: %w", err)
	}
	pair, err := tls.X509KeyPair(made.CertPEM, made.KeyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("serve metrics: %w", err)
	}
	return pair, nil
}

// verdicts on tokens are remembered for a short time, so that scraping does not ask
// the API server each time.
type verdicts = expirable.LRU[string, int]

func newVerdicts() *verdicts { return expirable.NewLRU[string, int](1024, nil, 30*time.Second) }
