package probe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // ZooKeeper's digest scheme is SHA-1
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/test/lab"
)

// Groups and weights are read from the servers: a quorum is a majority of weight in
// a majority of groups. So they are over TLS to servers that want our certificate,
// and where the configuration is only for whom has a password.
func TestZooKeeperGroups(t *testing.T) {
	t.Parallel()
	subnet, err := lab.ClaimSubnet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { subnet.Close() })
	keys, trusting := newTLS(t)
	c := lab.ZooKeeperConfig{TLS: keys, SuperPassword: "secret", Whitelist: "srvr"}
	for id := 1; id <= 3; id++ {
		c.Members = append(c.Members, lab.ZooKeeperMember{ID: id, Host: subnet.Addr(id), Group: 1, Weight: map[int]int{1: 3, 2: 1, 3: 1}[id]})
	}
	e := startZooKeeper(t, c)
	heavy := func(t *testing.T, p *probe.ZooKeeper, source string) {
		t.Helper()
		v := await(t, p, members(e), probe.Rules{}, "all in sync", func(v *probe.View) bool {
			return three(v) && v.Live && v.Members[v.Leader].Answer.Source == source
		})
		if got := v.Without(quorum.SetOf(1, 2), 0); got != quorum.Safe {
			t.Errorf("the heavy one alone: %s, want Safe", got)
		}
		if got := v.Without(quorum.SetOf(0), 0); got != quorum.Unsafe {
			t.Errorf("without the heavy one: %s, want Unsafe", got)
		}
	}
	heavy(t, &probe.ZooKeeper{ClientPort: 2181, AdminPort: 8080}, "AdminServer")
	heavy(t, &probe.ZooKeeper{ClientPort: 2281, TLS: trusting}, "srvr")
	stranger := &probe.ZooKeeper{ClientPort: 2281, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusting.RootCAs, ServerName: trusting.ServerName}}
	if v := look(t.Context(), stranger, members(e), probe.Rules{Voters: 3}); v.Known || v.Synced != 0 {
		t.Errorf("without a certificate: known=%t, %q, want nobody heard", v.Known, shown(&v))
	}

	reserve(t, e, "probe:right")
	v := await(t, &probe.ZooKeeper{ClientPort: 2181}, members(e), probe.Rules{Voters: 3}, "the configuration to be out of reach", func(v *probe.View) bool {
		return v.Leader >= 0 && v.Members[v.Leader].Answer.Reason != ""
	})
	if got := v.Without(quorum.SetOf(1, 2), 0); got == quorum.Safe {
		t.Errorf("the heavy one alone, without knowing its weight: %s", got)
	}
	heavy(t, &probe.ZooKeeper{ClientPort: 2181, Auth: &probe.Digest{User: "probe", Password: "right"}}, "srvr")
}

// reserve lets nobody read the configuration who does not have the credentials.
func reserve(t *testing.T, e *lab.Ensemble, credentials string) {
	t.Helper()
	conn := super(t, e)
	sum := sha1.Sum([]byte(credentials)) //nolint:gosec // as ZooKeeper does
	acl := []zk.ACL{{Perms: zk.PermRead, Scheme: "digest", ID: "probe:" + base64.StdEncoding.EncodeToString(sum[:])}}
	err := lab.Await(t.Context(), 2*time.Minute, "the configuration to be reserved", func(context.Context) error {
		_, err := conn.SetACL("/zookeeper/config", acl, -1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// super is a session that may do anything.
func super(t *testing.T, e *lab.Ensemble) *zk.Conn {
	t.Helper()
	var servers []string
	for _, s := range e.Servers() {
		servers = append(servers, s.Addr())
	}
	conn, _, err := zk.Connect(servers, 10*time.Second, zk.WithLogInfo(false), zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.AddAuth("digest", []byte("super:secret")); err != nil {
		t.Fatal(err)
	}
	return conn
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// newTLS are keys of servers that let nobody in without a certificate, and what
// talks to them.
func newTLS(t *testing.T) (*lab.ZooKeeperTLS, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true, DNSNames: []string{"zk.lab"},
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
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool, dir := x509.NewCertPool(), t.TempDir()
	pool.AppendCertsFromPEM(certPEM)
	files := lab.ZooKeeperTLS{KeyFile: filepath.Join(dir, "both.pem"), TrustFile: filepath.Join(dir, "cert.pem")}
	for path, text := range map[string][]byte{files.KeyFile: append(keyPEM, certPEM...), files.TrustFile: certPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &files, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "zk.lab"}
}
