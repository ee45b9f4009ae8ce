package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Config of a Rotator.
type Config struct {
	// Client that reads from the API server, not from a cache.
	Client client.Client
	// Secret that holds the certificates. It must be there: we may not create any.
	Secret types.NamespacedName
	// Configuration is the name of the webhook configurations to inject into. One that
	// is not there is not waited for.
	Configuration string
	// Names that the API server calls us by, at least one.
	Names []string
	// CAValidity, Validity, RenewBefore and Propagation are as in the configuration.
	CAValidity, Validity, RenewBefore, Propagation time.Duration
	// Every is how often is looked. 0: 5 s.
	Every time.Duration
	// Metrics or nil.
	Metrics *Metrics
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Rotator makes, rotates, injects and serves certificates of our own. It is safe for
// concurrent use.
type Rotator struct {
	cfg     Config
	terms   terms
	serving atomic.Pointer[serving]
	// injected is set once every configuration was seen, or made, to hold what is served.
	injected atomic.Bool

	mu sync.Mutex // guards below
	// trusted is the CA that every configuration was last seen to hold, and since when
	// each look has seen that. A replica that starts counts anew: it is late, never early.
	trusted *x509.Certificate
	since   time.Time
}

type serving struct {
	certificate tls.Certificate
	pem         []byte
}

// NewRotator returns a Rotator that has looked at nothing yet.
func NewRotator(cfg Config) *Rotator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	return &Rotator{cfg: cfg, terms: terms{
		names: cfg.Names, caValidity: cfg.CAValidity, validity: cfg.Validity,
		renewBefore: cfg.RenewBefore, propagation: cfg.Propagation,
	}}
}

// Start looks again and again until ctx ends. Errors are logged and counted: what is
// served goes on being served.
func (r *Rotator) Start(ctx context.Context) error {
	ticker := time.NewTicker(r.cfg.Every)
	defer ticker.Stop()
	for {
		if err := r.Look(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Metrics.failed()
			klog.FromContext(ctx).Error(err, "Could not look after the certificates")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection is false: every replica serves.
func (r *Rotator) NeedLeaderElection() bool { return false }

// GetCertificate is for tls.Config.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s := r.serving.Load(); s != nil {
		return &s.certificate, nil
	}
	return nil, errNone
}

// Ready is nil once there is a certificate to serve, and API servers are told whom to
// believe.
func (r *Rotator) Ready() error {
	switch {
	case r.serving.Load() == nil:
		return errNone
	case !r.injected.Load():
		return errNotInjected
	default:
		return nil
	}
}

var (
	errNone        = errors.New("no certificate yet")
	errNotInjected = errors.New("its CA is not in every caBundle yet")
)

// Look does what is due, once: it takes over what the Secret holds, makes what is
// missing or about to end, and injects the bundle. A conflict is somebody else's
// progress, and no error: the next look sees it.
func (r *Rotator) Look(ctx context.Context) error {
	// The order matters: a configuration is read before the Secret.
	hooks, err := r.readConfigurations(ctx)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{}
	if err := r.cfg.Client.Get(ctx, r.cfg.Secret, secret); err != nil {
		return fmt.Errorf("read Secret %s: %w", r.cfg.Secret, err)
	}
	now := r.cfg.Now()
	trusted := func(ca *x509.Certificate) (time.Time, bool) { return r.trustedSince(hooks, ca, now) }
	data, changed, err := r.terms.next(secret.Data, trusted, now)
	if err != nil {
		return err
	}
	if changed {
		secret.Data = keep(secret.Data, data)
		if err := r.cfg.Client.Update(ctx, secret); apierrors.IsConflict(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("write Secret %s: %w", r.cfg.Secret, err)
		}
		r.cfg.Metrics.rotated()
		klog.FromContext(ctx).Info("Wrote certificates", "secret", r.cfg.Secret, "authorities", len(authorities(data[keyCA])))
	}
	if err := r.serve(data); err != nil {
		return err
	}
	injected, err := hooks.inject(ctx, r.cfg.Client, data[keyCA])
	if injected {
		r.injected.Store(true)
	}
	return err
}

// trustedSince is since when each look has seen that every configuration holds the CA.
func (r *Rotator) trustedSince(hooks *configurations, ca *x509.Certificate, now time.Time) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !hooks.trust(ca):
		r.trusted = nil
		return time.Time{}, false
	case r.trusted == nil || !r.trusted.Equal(ca):
		r.trusted, r.since = ca, now
	}
	return r.since, true
}

func (r *Rotator) serve(data map[string][]byte) error {
	text := append(bytes.Clone(data[keyServer]), data[keyKey]...)
	if s := r.serving.Load(); s != nil && bytes.Equal(s.pem, text) {
		return nil
	}
	pair, err := tls.X509KeyPair(data[keyServer], data[keyKey])
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	r.cfg.Metrics.expires("serving", pair.Leaf)
	r.cfg.Metrics.expires("ca", authorities(data[keyCA])[0])
	r.serving.Store(&serving{certificate: pair, pem: text})
	return nil
}

// keep lays made over have: other keys of the Secret are not ours.
func keep(have, made map[string][]byte) map[string][]byte {
	all := maps.Clone(have)
	if all == nil {
		all = map[string][]byte{}
	}
	maps.Copy(all, made)
	return all
}

func (r *Rotator) readConfigurations(ctx context.Context) (*configurations, error) {
	c := &configurations{}
	key := client.ObjectKey{Name: r.cfg.Configuration}
	validating, mutating := &admissionv1.ValidatingWebhookConfiguration{}, &admissionv1.MutatingWebhookConfiguration{}
	if err := r.cfg.Client.Get(ctx, key, validating); err == nil {
		c.validating = validating
	} else if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read ValidatingWebhookConfiguration %s: %w", key.Name, err)
	}
	if err := r.cfg.Client.Get(ctx, key, mutating); err == nil {
		c.mutating = mutating
	} else if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read MutatingWebhookConfiguration %s: %w", key.Name, err)
	}
	return c, nil
}

// configurations are what tells the API servers whom to trust. Nil: not there.
type configurations struct {
	validating *admissionv1.ValidatingWebhookConfiguration
	mutating   *admissionv1.MutatingWebhookConfiguration
}

// bundles are the places for the CAs.
func (c *configurations) bundles() (validating, mutating []*[]byte) {
	if c.validating != nil {
		for i := range c.validating.Webhooks {
			validating = append(validating, &c.validating.Webhooks[i].ClientConfig.CABundle)
		}
	}
	if c.mutating != nil {
		for i := range c.mutating.Webhooks {
			mutating = append(mutating, &c.mutating.Webhooks[i].ClientConfig.CABundle)
		}
	}
	return validating, mutating
}

func (c *configurations) trust(ca *x509.Certificate) bool {
	validating, mutating := c.bundles()
	for _, bundle := range append(validating, mutating...) {
		if !includes(*bundle, ca) {
			return false
		}
	}
	return true
}

// inject the bundle, and report whether every configuration holds it. A conflict is no
// error: the next look sees what somebody else wrote.
func (c *configurations) inject(ctx context.Context, to client.Client, bundle []byte) (done bool, err error) {
	validating, mutating := c.bundles()
	var errs []error
	if set(validating, bundle) {
		errs = append(errs, update(ctx, to, c.validating))
	}
	if set(mutating, bundle) {
		errs = append(errs, update(ctx, to, c.mutating))
	}
	done = true
	for i, err := range errs {
		done = done && err == nil
		if apierrors.IsConflict(err) {
			errs[i] = nil
		}
	}
	return done, errors.Join(errs...)
}

func set(places []*[]byte, bundle []byte) (changed bool) {
	for _, place := range places {
		if !bytes.Equal(*place, bundle) {
			*place, changed = bundle, true
		}
	}
	return changed
}

func update(ctx context.Context, to client.Client, obj client.Object) error {
	if err := to.Update(ctx, obj); err != nil {
		return fmt.Errorf("inject caBundle into %T %s: %w", obj, obj.GetName(), err)
	}
	return nil
}

// signs reports whether the key is the CA's.
func signs(ca *x509.Certificate, key []byte) bool {
	_, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), key)
	return err == nil
}

func rsaKey(key crypto.PrivateKey) (*rsa.PrivateKey, error) {
	if k, ok := key.(*rsa.PrivateKey); ok {
		return k, nil
	}
	return nil, fmt.Errorf("read CA: its key is %T, not RSA", key)
}
