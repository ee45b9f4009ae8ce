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
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// startServer serves three zones and says where.
func startServer(t *testing.T, c ServerConfig) (address string) {
	t.Helper()
	c.Placer, c.BindAddress = startPlacer(t, &known{}, threeZones(), nil), "127.0.0.1:0"
	server, err := NewServer(c)
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
	return server.Addr().String()
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
	url := "https://" + startServer(t, ServerConfig{TLS: files}) + "/metrics"
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

// Another client CA takes effect without a restart, for and against.
func TestClientCAReload(t *testing.T) {
	old, next, dir := newAuthority(t), newAuthority(t), t.TempDir()
	files := TLSFiles{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), ClientCAFile: filepath.Join(dir, "ca.crt")}
	old.issue(t, files.CertFile, files.KeyFile, 7)
	write(t, files.ClientCAFile, old.pem)
	trust := x509.NewCertPool()
	trust.AddCert(old.cert)
	client := func(a *authority) *tls.Config {
		certFile, keyFile := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
		a.issue(t, certFile, keyFile, 9)
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		// Sent whatever the server asks for, so that it is the server that refuses.
		return &tls.Config{RootCAs: trust, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }}
	}
	before, after := client(old), client(next)
	url := "https://" + startServer(t, ServerConfig{TLS: files}) + "/metrics"
	served := func(c *tls.Config) bool {
		_, err := serial(t.Context(), url, c)
		return err == nil
	}
	if !served(before) || served(after) {
		t.Fatal("want the client of the first CA served, and the other one not")
	}
	write(t, files.ClientCAFile, []byte("half written"))
	if !served(before) {
		t.Error("with a broken client CA the client of the last good one is not served")
	}
	write(t, files.ClientCAFile, next.pem)
	await(t, func() bool { return served(after) })
	if served(before) {
		t.Error("the client of the first CA is served still")
	}
}

// A scheduler that hangs up in the middle of its question costs nothing, nor does one
// that is gone without a word.
func TestCutConnections(t *testing.T) {
	address := startServer(t, ServerConfig{Timeout: 10 * time.Second})
	await(t, func() bool { return connections() == 0 }) // those of other tests
	var cut []net.Conn
	for range 20 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{\"Pod\":"); err != nil {
			t.Fatal(err)
		}
		cut = append(cut, c)
	}
	await(t, func() bool { return connections() >= len(cut) })
	for _, c := range cut[1:] { // the first one says nothing more
		c.Close()
	}
	await(t, func() bool { return connections() == 0 })
	status, body := post(t, "http://"+address+"/filter", encode(t, askFor(threeZones(), "zk-0", "b1")))
	if status != http.StatusOK || !strings.Contains(body, `"NodeNames":["b1"]`) {
		t.Errorf("after cut connections: got %d %s", status, body)
	}
}

// connections is how many goroutines work for connections of any server here.
func connections() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "created by net/http.(*Server).Serve")
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
