package leaderelection

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/config"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Store is where an election is held, as the options chose it.
type Store struct {
	// Lock for a LeaderElector, or for controller-runtime's
	// LeaderElectionResourceLockInterface.
	Lock resourcelock.Interface
	// ZooKeeper is the part of it that is held there, nil with Leases.
	ZooKeeper *Lock
	// Session behind it, nil with Leases.
	Session *Session
}

// Close gives up what the store holds. Call it when the work has stopped.
func (s *Store) Close(ctx context.Context) error {
	if s.Session == nil {
		return nil
	}
	return s.Session.Close(ctx)
}

// Settings are what a program gives to Open beside the flags.
type Settings struct {
	// Identity of the candidate.
	Identity string
	// Kubeconfig is needed where a Lease is held; with ZooKeeper alone it may be nil,
	// and nothing is sealed then.
	Kubeconfig *rest.Config
	// Events receives those of the elector, or nil.
	Events resourcelock.EventRecorder
	// Registerer of the metrics, or nil.
	Registerer prometheus.Registerer
}

// Dial opens the session that the options ask for, for programs that use Run or only
// look. It reads their files, and does not validate the rest.
func (o *Options) Dial(ctx context.Context, reg prometheus.Registerer) (*Session, error) {
	cfg, err := o.session(reg)
	if err != nil {
		return nil, err
	}
	return Dial(ctx, cfg)
}

// Open returns the lock that the options ask for, in either store.
func (o *Options) Open(ctx context.Context, c *config.LeaderElectionConfiguration, s Settings) (*Store, error) {
	if err := o.Validate(c); err != nil {
		return nil, err
	}
	if s.Kubeconfig == nil && c.ResourceLock != ZooKeeper {
		return nil, fmt.Errorf("open lock %s: %w", c.ResourceLock, errNoKubeconfig)
	}
	if c.ResourceLock == Leases {
		lock, err := resourcelock.NewFromKubeconfig(Leases, c.ResourceNamespace, c.ResourceName,
			resourcelock.ResourceLockConfig{Identity: s.Identity, EventRecorder: s.Events}, s.Kubeconfig, c.RenewDeadline.Duration)
		return &Store{Lock: lock}, err
	}
	session, err := o.Dial(ctx, s.Registerer)
	if err != nil {
		return nil, err
	}
	store, err := o.locks(c, s, session)
	if err != nil {
		_ = session.Close(ctx)
		return nil, err
	}
	return store, nil
}

func (o *Options) locks(c *config.LeaderElectionConfiguration, s Settings, session *Session) (*Store, error) {
	lock, err := New(Config{
		Session: session, Namespace: c.ResourceNamespace, Name: c.ResourceName, Identity: s.Identity,
		LeaseDuration: c.LeaseDuration.Duration, RenewDeadline: c.RenewDeadline.Duration, RetryPeriod: c.RetryPeriod.Duration,
		StopTime: o.StopTime, StopsFirst: o.StopsFirst, Events: s.Events,
	})
	if err != nil {
		return nil, err
	}
	store := &Store{Lock: lock, ZooKeeper: lock, Session: session}
	if s.Kubeconfig == nil || (c.ResourceLock == ZooKeeper && !o.SealLease) {
		return store, nil
	}
	// As client-go does: a request must not take the whole renew deadline.
	kubeconfig := rest.AddUserAgent(rest.CopyConfig(s.Kubeconfig), "leader-election")
	kubeconfig.Timeout = c.RenewDeadline.Duration / 2
	client, err := clientset.NewForConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("make client for the Lease: %w", err)
	}
	if c.ResourceLock == ZooKeeper {
		store.Lock = newSealed(lock, client.CoordinationV1())
	} else {
		store.Lock = newBridge(lock, client.CoordinationV1())
	}
	return store, nil
}

// session that the options ask for. It reads their files.
func (o *Options) session(reg prometheus.Registerer) (SessionConfig, error) {
	cfg := SessionConfig{Servers: o.Servers, Timeout: o.SessionTimeout, Tick: o.Tick, Root: o.Root, Registerer: reg}
	if o.AuthFile != "" {
		auth, err := readAuth(o.AuthFile)
		if err != nil {
			return cfg, fmt.Errorf("--%sauth-file: %w", flagPrefix, err)
		}
		cfg.Auth = auth
	}
	if o.CAFile == "" && o.CertFile == "" {
		return cfg, nil
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return cfg, fmt.Errorf("--%stls-ca-file: %w", flagPrefix, err)
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return cfg, fmt.Errorf("--%stls-ca-file: %s holds no certificate", flagPrefix, o.CAFile)
		}
	}
	if o.CertFile != "" {
		// Read again at each handshake: certificates are renewed in place.
		if _, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return cfg, fmt.Errorf("--%stls-cert-file: %w", flagPrefix, err)
		}
		cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &pair, err
		}
	}
	return cfg, nil
}

func readAuth(file string) (*zookeeper.Auth, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scheme, credential, ok := strings.Cut(strings.TrimSpace(string(data)), ":")
	if !ok || scheme == "" || credential == "" || strings.ContainsAny(credential, "\r\n") {
		return nil, fmt.Errorf("%s does not hold SCHEME:CREDENTIAL on one line", file)
	}
	return &zookeeper.Auth{Scheme: scheme, Credential: []byte(credential)}, nil
}
