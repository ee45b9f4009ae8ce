package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/serving"
	"github.com/quorate/quorate/extender"
)

// volume holds a certificate as a kubelet mounts a Secret: the files are links into
// another directory, and all change at once.
type volume struct {
	dir string
	ca  *x509.Certificate
	key *ecdsa.PrivateKey // of the CA
}

func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{dir: t.TempDir()}
	var err error
	if v.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	v.ca = &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, v.ca, v.ca, &v.key.PublicKey, v.key)
	if err != nil {
		t.Fatal(err)
	}
	if v.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// put a new certificate of that serial number in the place of the one before.
func (v *volume) put(t *testing.T, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, v.ca, &key.PublicKey, v.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(v.dir, name) }
	old, _ := os.Readlink(in("..data"))
	data := fmt.Sprintf("..%d", serial)
	if err := errors.Join(
		os.Mkdir(in(data), 0o700),
		os.WriteFile(in(data+"/tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(in(data+"/tls.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600),
		os.Symlink(data, in("..next")),
		os.Rename(in("..next"), in("..data")),
	); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(in(old)); err != nil {
			t.Fatal(err)
		}
	}
}

// ask over a connection of its own, or one that it had, and say whose certificate it was.
func (v *volume) ask(ctx context.Context, c *http.Client, address string) (serial int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), err
}

func (v *volume) client(keep bool) *http.Client {
	trust := x509.NewCertPool()
	trust.AddCert(v.ca)
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: !keep, TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12},
	}}
}

// nowhere is a process that reaches no API server.
func nowhere(t *testing.T) *process {
	t.Helper()
	c := config.Default()
	c.ClientConnection.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	const text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a}}]\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n"
	if err := os.WriteFile(c.ClientConnection.Kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newProcess(c, &config.Source{}, identity{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// webhookOf that directory: its address, and what runs until it ends.
func webhookOf(t *testing.T, dir string) (string, func(context.Context) error) {
	t.Helper()
	p := nowhere(t)
	p.config.Webhook.BindAddress = "127.0.0.1:0"
	p.config.Webhook.Certificates.Source, p.config.Webhook.Certificates.Directory = config.Files, dir
	if err := p.addWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p.servers[0].Listener.Addr().String(), func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, part := range p.parts {
			group.Go(func() error { return part(ctx) })
		}
		group.Go(func() error { return serving.Run(ctx, serving.Drain{Timeout: time.Minute}, p.servers...) })
		return group.Wait()
	}
}

// extenderOf that directory.
func extenderOf(t *testing.T, dir string) (string, func(context.Context) error) {
	t.Helper()
	_, informer, err := nowhere(t).membership()
	if err != nil {
		t.Fatal(err)
	}
	server, err := extender.NewServer(extender.ServerConfig{
		Placer: extender.NewPlacer(extender.PlacerConfig{Membership: informer}), BindAddress: "127.0.0.1:0",
		TLS: extender.TLSFiles{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return server.Addr().String(), server.Run
}

// Certificates are swapped on disk under load: no request fails, neither on connections
// that are there nor on new ones, and those get the new certificate.
func TestSwappedFilesFailNoRequest(t *testing.T) {
	for name, of := range map[string]func(*testing.T, string) (string, func(context.Context) error){
		"webhook": webhookOf, "extender": extenderOf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t)
			v.put(t, 10)
			address, run := of(t, v.dir)
			ctx, stop := context.WithCancel(t.Context())
			end := make(chan error, 1)
			go func() { end <- run(ctx) }()
			load := v.load(t.Context(), address)
			fresh := v.client(false)
			for serial := int64(10); serial < 13; serial++ {
				if serial > 10 {
					v.put(t, serial)
				}
				before := load.opened.Load()
				await(t, fmt.Sprintf("certificate %d, under load", serial), func() bool {
					got, err := v.ask(t.Context(), fresh, address)
					if err != nil {
						t.Fatalf("a request failed while certificate %d was put: %v", serial, err)
					}
					return got == serial && load.opened.Load() > before+20
				})
			}
			load.end(t)
			stop()
			if err := <-end; err != nil {
				t.Error(err)
			}
		})
	}
}

// load is clients that ask all the time.
type load struct {
	opened   atomic.Int64 // connections
	failures sync.Map
	clients  sync.WaitGroup
	stop     context.CancelFunc
}

func (v *volume) load(ctx context.Context, address string) *load {
	l := &load{}
	ctx, l.stop = context.WithCancel(ctx)
	for i := range 4 {
		l.clients.Go(func() {
			keep := i%2 == 0
			c := v.client(keep)
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				if _, err := v.ask(context.WithoutCancel(ctx), c, address); err != nil {
					l.failures.Store(err.Error(), true)
				}
				if !keep {
					l.opened.Add(1)
				}
			}
		})
	}
	return l
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.clients.Wait()
	l.failures.Range(func(key, _ any) bool {
		t.Errorf("a request failed: %v", key)
		return true
	})
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}
