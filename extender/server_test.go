package extender

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: "authority"}, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue writes a certificate of that serial number and its key.
func (a *authority) issue(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serial asks the server who it is, without keeping the connection.
func serial(ctx context.Context, url string, c *tls.Config) (int64, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}

// Clients must bear a certificate by the CA, and files that change take effect
// without a restart; what does not fit together yet does not.
func TestMutualTLS(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	files := TLSFiles{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), ClientCAFile: filepath.Join(dir, "ca.crt")}
	ca.issue(t, files.CertFile, files.KeyFile, 7)
	write(t, files.ClientCAFile, ca.pem)
	ca.issue(t, filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"), 9)
	client, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	w := threeZones()
	server, err := NewServer(ServerConfig{Placer: startPlacer(t, &known{}, w, nil), BindAddress: "127.0.0.1:0", TLS: files})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	url := "https://" + server.Addr().String() + "/metrics"
	trust := x509.NewCertPool()
	trust.AddCert(ca.cert)
	if _, err := serial(t.Context(), url, &tls.Config{RootCAs: trust}); err == nil {
		t.Error("a client without a certificate was served")
	}
	known := &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{client}}
	if n, err := serial(t.Context(), url, known); err != nil || n != 7 {
		t.Fatalf("got serial %d, %v; want 7", n, err)
	}
	write(t, files.KeyFile, []byte("half written"))
	if n, err := serial(t.Context(), url, known); err != nil || n != 7 {
		t.Errorf("with a broken key: got serial %d, %v; want 7 still", n, err)
	}
	ca.issue(t, files.CertFile, files.KeyFile, 8)
	await(t, func() bool {
		n, err := serial(t.Context(), url, known)
		return err == nil && n == 8
	})
}

func TestServerRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), nil)
	for why, c := range map[string]ServerConfig{
		"port taken":          {BindAddress: taken(t)},
		"no such certificate": {BindAddress: "127.0.0.1:0", TLS: TLSFiles{CertFile: filepath.Join(dir, "x"), KeyFile: filepath.Join(dir, "y")}},
		"CA alone":            {BindAddress: "127.0.0.1:0", TLS: TLSFiles{ClientCAFile: filepath.Join(dir, "empty")}},
	} {
		c.Placer = NewPlacer(PlacerConfig{Membership: &known{}})
		if _, err := NewServer(c); err == nil {
			t.Errorf("%s: started", why)
		}
	}
}

func taken(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
