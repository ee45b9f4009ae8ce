package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/cmd/quorate/internal/certs"
	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/serving"
)

// certificates are what the webhook serves with.
type certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Start(ctx context.Context) error
	Ready() error
}

// addWebhook guards evictions, deletions and scale-downs.
func (p *process) addWebhook(ctx context.Context) error {
	c := &p.config.Webhook
	certificates, err := p.certificates()
	if err != nil {
		return err
	}
	judging, err := client.New(unbounded(p.rest), client.Options{Scheme: p.live.Scheme()})
	if err != nil {
		return fmt.Errorf("make the guard's client of the API server: %w", err)
	}
	guard, err := admission.New(admission.Config{
		Cluster:  admission.Live{Reader: judging, Writer: judging},
		Examiner: examinerOf(judging), Memory: p.grants,
		Deadline: c.Deadline.Duration, Events: p.recorder, Metrics: p.registry,
	})
	if err != nil {
		return err
	}
	listener, err := serving.Listen(ctx, "webhook", c.BindAddress)
	if err != nil {
		return err
	}
	m := mux{http.NewServeMux()}
	guard.Register(m)
	p.servers = append(p.servers, &serving.Server{
		Name: "webhook", Listener: listener, Handler: m,
		TLS: &tls.Config{GetCertificate: certificates.GetCertificate, MinVersion: tls.VersionTLS12},
	})
	p.parts = append(p.parts, certificates.Start)
	p.ready.Add("certificate", certificates.Ready)
	return nil
}

// unbounded lets every request out at once. The guard asks the API server a few times
// for each request that the API server sent: who must wait for a turn of ours answers
// too late, and the API server bounds us by its own flow control.
func unbounded(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.QPS = -1
	return c
}

func (p *process) certificates() (certificates, error) {
	c := &p.config.Webhook.Certificates
	metrics := certs.NewMetrics(p.registry)
	if c.Source == config.Files {
		return certs.NewFiles(c.Directory, 0, metrics)
	}
	return certs.NewRotator(certs.Config{
		Client: p.live, Secret: types.NamespacedName{Namespace: p.id.namespace, Name: c.SecretName},
		Configuration: p.config.Webhook.ConfigurationName,
		Names:         webhookNames(c, p.id.namespace),
		CAValidity:    c.CAValidity.Duration, Validity: c.Validity.Duration,
		RenewBefore: c.RenewBefore.Duration, Propagation: c.Propagation.Duration,
		Metrics: metrics,
	}), nil
}

// webhookNames are what API servers call us by, that of a Service first.
func webhookNames(c *config.Certificates, namespace string) []string {
	host := c.ServiceName + "." + namespace
	return append([]string{host + ".svc", host + ".svc.cluster.local", host}, c.ExtraNames...)
}

// mux is what admission registers with.
type mux struct{ *http.ServeMux }

// Register implements admission.Mux.
func (m mux) Register(path string, hook http.Handler) { m.Handle("POST "+path, hook) }
