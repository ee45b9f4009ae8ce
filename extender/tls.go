package extender

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles names what a server proves itself with. Files that change are read
// again; while they don't fit together, the last ones that did are used.
type TLSFiles struct {
	// CertFile and KeyFile, or neither: no TLS.
	CertFile, KeyFile string
	// ClientCAFile makes only clients be served that bear a certificate by it.
	ClientCAFile string
}

// recheck is how often, at most, the files are looked at.
const recheck = time.Second

func (f TLSFiles) config() (*tls.Config, error) {
	if f.CertFile == "" && f.KeyFile == "" {
		if f.ClientCAFile != "" {
			return nil, errors.New("a client CA goes with a certificate and a key of the server: name both")
		}
		return nil, nil
	}
	r := &reloader{files: f}
	if err := r.load(); err != nil {
		return nil, err
	}
	r.stamps, r.looked = r.stamp(), time.Now()
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.current(time.Now()), nil },
	}, nil
}

// reloader keeps a TLS configuration as new as its files.
type reloader struct {
	files TLSFiles

	mu     sync.Mutex // guards below
	config *tls.Config
	stamps [3]time.Time
	looked time.Time
}

func (r *reloader) current(now time.Time) *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked) < recheck {
		return r.config
	}
	r.looked = now
	if s := r.stamp(); s != r.stamps && r.load() == nil {
		r.stamps = s
	}
	return r.config
}

// stamp is when the files were written; a file that is away has no time.
func (r *reloader) stamp() (s [3]time.Time) {
	for i, name := range []string{r.files.CertFile, r.files.KeyFile, r.files.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = info.ModTime()
		}
	}
	return s
}

func (r *reloader) load() error {
	cert, err := tls.LoadX509KeyPair(r.files.CertFile, r.files.KeyFile)
	if err != nil {
		return fmt.Errorf("read the extender's certificate: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if r.files.ClientCAFile != "" {
		pem, err := os.ReadFile(r.files.ClientCAFile)
		if err != nil {
			return fmt.Errorf("read the extender's client CA: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read the extender's client CA: %s holds no certificate", r.files.ClientCAFile)
		}
	}
	r.config = c
	return nil
}
