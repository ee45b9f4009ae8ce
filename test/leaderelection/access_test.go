package leaderelection

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lock "github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/test/lab"
)

// pki is one key and certificate that is its own authority, for the server and for
// its clients.
type pki struct {
	certFile, keyFile, both string
	pair                    tls.Certificate
	pool                    *x509.CertPool
}

func newPKI(t *testing.T) pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true, DNSNames: []string{"zk.lab"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	p := pki{pool: x509.NewCertPool()}
	p.pool.AppendCertsFromPEM(certPEM)
	if p.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p.certFile, p.keyFile = write("cert.pem", certPEM), write("key.pem", keyPEM)
	p.both = write("both.pem", append(keyPEM, certPEM...))
	return p
}

// All the ways in: each gets in, or gets its own clear error. At last one of the two
// servers is killed, and the other is read-only.
func TestAccess(t *testing.T) {
	together(t)
	keys := newPKI(t)
	e := ensemble(t, lab.ZooKeeperConfig{Voters: 2, ReadOnly: true, TLS: &lab.ZooKeeperTLS{KeyFile: keys.both, TrustFile: keys.certFile, ClientAuth: "need"}})
	server := e.Servers()[0]
	// What is asked for bounds the opening, too; the server grants 20 ticks.
	base := lock.SessionConfig{Servers: server.Addr(), Timeout: time.Minute, Tick: tick, RenewInterval: tick}
	digest := func(user string) *zookeeper.Auth {
		return &zookeeper.Auth{Scheme: "digest", Credential: []byte(user)}
	}
	with := func(change func(*lock.SessionConfig)) lock.SessionConfig {
		c := base
		change(&c)
		return c
	}
	mutual := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: keys.pool, Certificates: []tls.Certificate{keys.pair}, ServerName: "zk.lab"}
	for _, c := range []struct {
		name string
		cfg  lock.SessionConfig
		want string // of the error, empty: none
		is   error
	}{
		{name: "open", cfg: base},
		{name: "digest", cfg: with(func(c *lock.SessionConfig) { c.Auth, c.Root = digest("a:right"), "/secret" })},
		{name: "wrong password", cfg: with(func(c *lock.SessionConfig) { c.Auth, c.Root = digest("a:wrong"), "/secret" }), is: zookeeper.ErrNoAuth, want: "is the password right"},
		{name: "no password", cfg: with(func(c *lock.SessionConfig) { c.Root = "/secret" }), is: zookeeper.ErrNoAuth, want: "the session may not create it: it has no credentials"},
		{name: "unknown scheme", cfg: with(func(c *lock.SessionConfig) { c.Auth = &zookeeper.Auth{Scheme: "nonsense", Credential: []byte("x")} }), is: zookeeper.ErrAuthFailed, want: "authenticate by nonsense"},
		{name: "mutual TLS", cfg: with(func(c *lock.SessionConfig) { c.Servers, c.TLS, c.Root = server.SecureAddr(), mutual, "/mutual" })},
		{name: "TLS without a certificate", cfg: with(func(c *lock.SessionConfig) {
			c.Servers, c.TLS, c.Timeout = server.SecureAddr(), mutual.Clone(), 3*time.Second
			c.TLS.Certificates = nil
		}), is: zookeeper.ErrNoServer, want: "tls: bad certificate"},
		{name: "node of a certificate without it", cfg: with(func(c *lock.SessionConfig) { c.Root = "/mutual" }), is: zookeeper.ErrNoAuth, want: "it has no credentials"},
		{name: "wrong server name", cfg: with(func(c *lock.SessionConfig) {
			c.Servers, c.TLS, c.Timeout = server.SecureAddr(), mutual.Clone(), 5*time.Second
			c.TLS.ServerName = "other.lab"
		}), is: zookeeper.ErrNoServer, want: "certificate is valid for zk.lab, not other.lab"},
		{name: "plain text to TLS", cfg: with(func(c *lock.SessionConfig) { c.Servers, c.Timeout = server.SecureAddr(), 2*time.Second }), is: zookeeper.ErrRefused, want: "no session within 2s"},
		{name: "chroot that is not there", cfg: with(func(c *lock.SessionConfig) { c.Servers = server.Addr() + "/a/b" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := lock.Dial(ctx, c.cfg)
			if err == nil {
				err = errors.Join(tryOut(ctx, s), s.Close(ctx))
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (!errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %v and %q", err, c.is, c.want)
			}
		})
	}
	t.Run("session capped by the server", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := lock.Dial(ctx, with(func(c *lock.SessionConfig) { c.Timeout = time.Hour }))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(ctx)
		if got := s.Timeout(); got != 20*tick {
			t.Errorf("granted %v, want %v", got, 20*tick)
		}
		_, err = lock.New(lock.Config{Session: s, Namespace: "lab", Name: "x", Identity: "a"})
		if !errors.Is(err, lock.ErrBudget) || !strings.Contains(err.Error(), "the server granted 10s") {
			t.Errorf("a bare elector's defaults fit into 10 s: %v", err)
		}
	})
	t.Run("read-only server", func(t *testing.T) {
		wantReadOnly(t, server, e.Servers()[1], with(func(c *lock.SessionConfig) { c.Timeout = 5 * time.Second }))
	})
}

// wantReadOnly of a server that has lost its quorum, and says so when it is asked.
func wantReadOnly(t *testing.T, server, other *lab.Server, cfg lock.SessionConfig) {
	if err := other.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "the read-only mode", func() bool {
		mode, _ := server.Mode(t.Context())
		return mode == "read-only"
	})
	if s, err := lock.Dial(t.Context(), cfg); !errors.Is(err, zookeeper.ErrReadOnly) {
		t.Errorf("got %v, %v, want %v", s, err, zookeeper.ErrReadOnly)
	}
}

// tryOut leads once.
func tryOut(ctx context.Context, s *lock.Session) error {
	return lock.Run(ctx, lock.Config{
		Session: s, Namespace: "lab", Name: "access", Identity: "a", StopTime: stopTime,
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
	}, lock.Callbacks{OnStartedLeading: func(context.Context) {}})
}
