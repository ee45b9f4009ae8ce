package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const (
	host        = "quorate-webhook.quorate-system.svc"
	propagation = 20 * time.Minute
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func cluster(t *testing.T) client.WithWatch {
	t.Helper()
	hook := admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "quorate-system", Name: "quorate-webhook"}}
	return fake.NewClientBuilder().WithObjects(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "quorate-system", Name: "tls"}},
		&admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "quorate"},
			Webhooks:   []admissionv1.ValidatingWebhook{{Name: "a.quorate.io", ClientConfig: hook}, {Name: "b.quorate.io", ClientConfig: hook}},
		},
		&admissionv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "quorate"},
			Webhooks:   []admissionv1.MutatingWebhook{{Name: "c.quorate.io", ClientConfig: hook}},
		},
	).Build()
}

func rotation(c client.Client, now func() time.Time, m *Metrics) *Rotator {
	return NewRotator(Config{
		Client: c, Secret: types.NamespacedName{Namespace: "quorate-system", Name: "tls"}, Configuration: "quorate",
		Names:      []string{host, "quorate-webhook.quorate-system"},
		CAValidity: 4 * time.Hour, Validity: 150 * time.Minute, RenewBefore: time.Hour, Propagation: propagation,
		Now: now, Metrics: m,
	})
}

// serveTLS answers on loopback with what the replica serves, over new connections.
func serveTLS(t *testing.T, r *Rotator) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(listener, &tls.Config{GetCertificate: r.GetCertificate, MinVersion: tls.VersionTLS13}))
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return listener.Addr().String()
}

// bundles that an API server may go by, all webhooks of both configurations.
func bundles(t *testing.T, c client.Client) [][]byte {
	t.Helper()
	validating, mutating := &admissionv1.ValidatingWebhookConfiguration{}, &admissionv1.MutatingWebhookConfiguration{}
	for _, obj := range []client.Object{validating, mutating} {
		if err := c.Get(t.Context(), client.ObjectKey{Name: "quorate"}, obj); err != nil {
			t.Fatal(err)
		}
	}
	return [][]byte{validating.Webhooks[0].ClientConfig.CABundle, validating.Webhooks[1].ClientConfig.CABundle, mutating.Webhooks[0].ClientConfig.CABundle}
}

// call does what an API server does with that bundle at that time.
func call(ctx context.Context, address string, bundle []byte, now func() time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host, Time: now, MinVersion: tls.VersionTLS13}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Two replicas rotate certificates and CAs for 12 hours; API servers that are behind by
// nearly the propagation time, and replicas that look late, never fail to connect.
func TestRotationDropsNoConnection(t *testing.T) {
	c, at := cluster(t), &clock{now: time.Now()}
	metrics := NewMetrics(prometheus.NewRegistry())
	replicas := []*Rotator{rotation(c, at.Now, metrics), rotation(c, at.Now, nil)}
	addresses := make([]string, len(replicas))
	for i, r := range replicas {
		if err := r.Ready(); err == nil {
			t.Error("replica is ready before it has looked")
		}
		if err := r.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Ready(); err != nil {
			t.Errorf("replica after its first look: %v", err)
		}
		addresses[i] = serveTLS(t, r)
	}
	const step, lag = 5 * time.Minute, 3 // the API servers' view is lag steps old
	var views [][][]byte
	cas, certificates := map[string]bool{}, map[string]bool{}
	for n := range int(12 * time.Hour / step) {
		at.advance(step)
		// The second replica looks at every third step only.
		for i, r := range replicas {
			if i == 0 || n%3 == 0 {
				if err := r.Look(t.Context()); err != nil {
					t.Fatalf("look after %v: %v", time.Duration(n)*step, err)
				}
			}
		}
		views = append(views, bundles(t, c))
		secret := &corev1.Secret{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "quorate-system", Name: "tls"}, secret); err != nil {
			t.Fatal(err)
		}
		cas[string(secret.Data[keyCAKey])] = true
		certificates[string(secret.Data[keyServer])] = true
		if got := len(authorities(secret.Data[keyCA])); got > 2 {
			t.Fatalf("CAs in the bundle: got %d, want 2 at most", got)
		}
		for i, bundle := range views[max(0, n-lag)] {
			if i > 0 && bytes.Equal(bundle, views[max(0, n-lag)][0]) {
				continue
			}
			for _, address := range addresses {
				if err := call(t.Context(), address, bundle, at.Now); err != nil {
					t.Fatalf("connect after %v: %v", time.Duration(n)*step, err)
				}
			}
		}
	}
	if len(cas) < 4 || len(certificates) < 6 {
		t.Errorf("in 12 hours: got %d CAs and %d certificates, want 4 and 6 at least", len(cas), len(certificates))
	}
	if got := testutil.ToFloat64(metrics.rotations); got < 6 {
		t.Errorf("rotations counted: got %v, want 6 at least", got)
	}
	if got := time.Unix(int64(testutil.ToFloat64(metrics.expiry.WithLabelValues("serving"))), 0); !got.After(at.Now()) {
		t.Errorf("expiry of what is served: got %v, want after %v", got, at.Now())
	}
}

// A CA is trusted everywhere, for as long as the slowest API server takes, before a
// certificate by it is served.
func TestNewCAIsTrustedBeforeItIsUsed(t *testing.T) {
	start := time.Now()
	terms := rotation(nil, nil, nil).terms
	everywhere := func(since time.Time) func(*x509.Certificate) (time.Time, bool) {
		return func(*x509.Certificate) (time.Time, bool) { return since, true }
	}
	nowhere := func(*x509.Certificate) (time.Time, bool) { return time.Time{}, false }
	first, _, err := terms.next(nil, nowhere, start)
	if err != nil {
		t.Fatal(err)
	}
	late := start.Add(190 * time.Minute)
	renewed, _, err := terms.next(first, everywhere(start), start.Add(95*time.Minute))
	if err != nil || string(renewed[keyServer]) == string(first[keyServer]) || string(renewed[keyCA]) != string(first[keyCA]) {
		t.Fatalf("certificate before its end: want a new one by the same CA (%v)", err)
	}
	next, changed, err := terms.next(renewed, everywhere(start), late)
	if err != nil || !changed {
		t.Fatalf("CA before its end: changed %v (%v), want a new CA", changed, err)
	}
	if got := len(authorities(next[keyCA])); got != 2 || string(next[keyServer]) != string(renewed[keyServer]) {
		t.Fatalf("new CA: got a bundle of %d, want 2, and the certificate as it was", got)
	}
	tests := []struct {
		name    string
		trusted func(*x509.Certificate) (time.Time, bool)
		after   time.Duration
		want    bool
	}{
		{"in no caBundle", nowhere, propagation, false},
		{"in the caBundle since a moment", everywhere(late), propagation - time.Second, false},
		{"made long ago, and in the caBundle since a moment", everywhere(late.Add(propagation)), propagation, false},
		{"in the caBundle for long enough", everywhere(late), propagation, true},
	}
	for _, tc := range tests {
		got, changed, err := terms.next(next, tc.trusted, late.Add(tc.after))
		if err != nil || changed != tc.want {
			t.Errorf("certificate by a CA %s: changed %v (%v), want %v", tc.name, changed, err, tc.want)
		}
		if changed && !terms.serves(got, authorities(got[keyCA])[:1], late) {
			t.Errorf("certificate by a CA %s is not by it", tc.name)
		}
	}
}

// What can't be injected is trusted by nobody, however old it is: the propagation
// begins once it is in, and only then is a first replica sent anything.
func TestPropagationBeginsWithTheInjection(t *testing.T) {
	at, forbidden := &clock{now: time.Now()}, false
	c := interceptor.NewClient(cluster(t), interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if _, hooks := obj.(*admissionv1.ValidatingWebhookConfiguration); hooks && forbidden {
				return errors.New("forbidden")
			}
			return c.Update(ctx, obj, opts...)
		},
	})
	r := rotation(c, at.Now, nil)
	look := func(after time.Duration, want string) {
		t.Helper()
		at.advance(after)
		if err := r.Look(t.Context()); err != nil && !forbidden {
			t.Fatal(err)
		}
		issuer := "the CA before"
		pair, err := r.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if pair.Leaf.CheckSignatureFrom(authorities(secretOf(t, c).Data[keyCA])[0]) == nil {
			issuer = "the newest CA"
		}
		if issuer != want {
			t.Errorf("%v later: served by %s, want %s", after, issuer, want)
		}
	}
	forbidden = true
	look(0, "the newest CA")
	if r.Ready() == nil {
		t.Error("ready, though no API server believes it")
	}
	forbidden = false
	look(0, "the newest CA")
	if err := r.Ready(); err != nil {
		t.Errorf("ready once injected: %v", err)
	}
	look(0, "the newest CA")              // is seen to be in
	look(95*time.Minute, "the newest CA") // a new certificate by it
	forbidden = true
	look(90*time.Minute, "the CA before") // a new CA
	look(propagation+5*time.Minute, "the CA before")
	forbidden = false
	look(0, "the CA before")
	look(time.Second, "the CA before") // is seen to be in
	look(propagation-time.Second, "the CA before")
	look(time.Second, "the newest CA")
}

// secretOf the certificates.
func secretOf(t *testing.T, c client.Client) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "quorate-system", Name: "tls"}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestWhatIsDamagedIsMadeAnew(t *testing.T) {
	damages := map[string]func(map[string][]byte){
		"no certificate":        func(d map[string][]byte) { delete(d, keyServer) },
		"garbage for a key":     func(d map[string][]byte) { d[keyKey] = []byte("garbage") },
		"no CA":                 func(d map[string][]byte) { delete(d, keyCA) },
		"no key of the CA":      func(d map[string][]byte) { delete(d, keyCAKey) },
		"another key of the CA": func(d map[string][]byte) { d[keyCAKey] = d[keyKey] },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			r := rotation(c, nil, nil)
			if err := r.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			secret := &corev1.Secret{}
			key := client.ObjectKey{Namespace: "quorate-system", Name: "tls"}
			if err := c.Get(t.Context(), key, secret); err != nil {
				t.Fatal(err)
			}
			secret.Data["other"] = []byte("not ours")
			damage(secret.Data)
			if err := c.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			if err := r.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Get(t.Context(), key, secret); err != nil {
				t.Fatal(err)
			}
			if string(secret.Data["other"]) != "not ours" {
				t.Error("a key of the Secret that is not ours was lost")
			}
			if err := call(t.Context(), serveTLS(t, r), bundles(t, c)[0], time.Now); err != nil {
				t.Errorf("connect: %v", err)
			}
		})
	}
}

// Whoever empties a caBundle cuts the API servers off; the next look mends it.
func TestEmptiedBundleIsFilledAgain(t *testing.T) {
	c := cluster(t)
	r := rotation(c, nil, nil)
	if err := r.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	hooks := &admissionv1.MutatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "quorate"}, hooks); err != nil {
		t.Fatal(err)
	}
	hooks.Webhooks[0].ClientConfig.CABundle = nil
	if err := c.Update(t.Context(), hooks); err != nil {
		t.Fatal(err)
	}
	if err := r.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, bundle := range bundles(t, c) {
		if len(authorities(bundle)) != 1 {
			t.Errorf("caBundle %d: got %d CAs, want 1", i, len(authorities(bundle)))
		}
	}
}

func TestAbsentSecretIsNamed(t *testing.T) {
	r := rotation(fake.NewClientBuilder().Build(), nil, nil)
	want := `read Secret quorate-system/tls: secrets "tls" not found`
	if got := fmt.Sprint(r.Look(t.Context())); got != want {
		t.Errorf("error: got %s, want %s", got, want)
	}
}
