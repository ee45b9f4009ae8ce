package eviction

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// forwarder is the Service in front of the replicas: each connection goes to the
// next one that accepts it.
type forwarder struct {
	net.Listener
	wait sync.WaitGroup

	mu    sync.Mutex // guards below
	to    []string
	next  int
	conns map[net.Conn]bool
}

func forward(t testing.TB) *forwarder {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{Listener: l, conns: map[net.Conn]bool{}}
	f.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.wait.Go(func() { f.serve(t.Context(), conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.wait.Wait()
	})
	return f
}

func (f *forwarder) own(c net.Conn, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delete(f.conns, c); held {
		f.conns[c] = true
	}
}

func (f *forwarder) set(to ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
}

func (f *forwarder) serve(ctx context.Context, in net.Conn) {
	f.own(in, true)
	defer f.own(in, false)
	defer in.Close()
	f.mu.Lock()
	f.next++
	to := append(append([]string{}, f.to[f.next%len(f.to):]...), f.to[:f.next%len(f.to)]...)
	f.mu.Unlock()
	for _, address := range to {
		out, err := dial(ctx, address)
		if err != nil {
			continue
		}
		f.own(out, true)
		defer f.own(out, false)
		defer out.Close()
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		_, _ = io.Copy(in, out)
		in.Close()
		wait.Wait()
		return
	}
}

// certificate for 127.0.0.1, signed by itself. It returns the files and the PEM.
func certificate(t testing.TB, dir string) (certFile, keyFile string, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "guard"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "guard.crt"), filepath.Join(dir, "guard.key")
	ca = write(t, certFile, "CERTIFICATE", der)
	write(t, keyFile, "PRIVATE KEY", pkcs8)
	return certFile, keyFile, ca
}

func write(t testing.TB, path, kind string, der []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
