package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Files serves the tls.crt and tls.key of a directory, and reads them again when
// they change. A pair that does not fit together changes nothing.
type Files struct {
	watcher *certwatcher.CertWatcher
}

// NewFiles reads the directory, which must hold a good pair. They are looked at
// every so often besides being watched; 0: 10 s.
func NewFiles(directory string, every time.Duration, metrics *Metrics) (*Files, error) {
	w, err := certwatcher.New(filepath.Join(directory, keyServer), filepath.Join(directory, keyKey))
	if err != nil {
		return nil, fmt.Errorf("read certificate of %s: %w", directory, err)
	}
	if every > 0 {
		w = w.WithWatchInterval(every)
	}
	w.RegisterCallback(func(pair tls.Certificate) { metrics.expires("serving", pair.Leaf) })
	return &Files{watcher: w}, nil
}

// Start watches until ctx ends.
func (f *Files) Start(ctx context.Context) error { return f.watcher.Start(ctx) }

// NeedLeaderElection is false: every replica serves.
func (f *Files) NeedLeaderElection() bool { return false }

// GetCertificate is for tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

// Ready is nil: NewFiles has read a pair.
func (f *Files) Ready() error { return nil }
