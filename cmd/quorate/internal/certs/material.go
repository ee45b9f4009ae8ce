package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
)

// Keys of the Secret.
const (
	keyCA     = "ca.crt"
	keyCAKey  = "ca.key"
	keyServer = "tls.crt"
	keyKey    = "tls.key"
)

// backdate is how much before their making certificates begin: clocks differ.
const backdate = time.Hour

// terms are how long certificates live and how they follow one another.
type terms struct {
	names       []string
	caValidity  time.Duration
	validity    time.Duration
	renewBefore time.Duration
	propagation time.Duration
}

// authorities are the CAs of a bundle that parse, in order.
func authorities(bundle []byte) []*x509.Certificate {
	var cas []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil {
			cas = append(cas, ca)
		}
	}
	return cas
}

// includes reports whether the bundle holds that CA.
func includes(bundle []byte, ca *x509.Certificate) bool {
	for _, have := range authorities(bundle) {
		if have.Equal(ca) {
			return true
		}
	}
	return false
}

// next is the data that follows on what the Secret holds, and whether it differs.
// trusted is since when every configuration was seen to hold that CA, if it does.
func (t terms) next(have map[string][]byte, trusted func(*x509.Certificate) (time.Time, bool), now time.Time) (map[string][]byte, bool, error) {
	cas := authorities(have[keyCA])
	ahead := now.Add(t.renewBefore)
	if len(cas) == 0 || !signs(cas[0], have[keyCAKey]) || !cas[0].NotAfter.After(ahead) {
		made, err := t.newCA(have, cas, now)
		return made, err == nil, err
	}
	newest := cas[0]
	if !t.serves(have, cas, now) {
		made, err := t.newServer(have, newest, now)
		return made, err == nil, err
	}
	since, everywhere := trusted(newest)
	settled := everywhere && now.Sub(since) >= t.propagation
	if settled && !t.serves(have, cas[:1], ahead) {
		made, err := t.newServer(have, newest, now)
		return made, err == nil, err
	}
	return t.prune(have, cas, now)
}

// newCA puts a new CA before the others. The certificate that is served stays, if it
// is any good: nobody trusts the new CA yet.
func (t terms) newCA(have map[string][]byte, cas []*x509.Certificate, now time.Time) (map[string][]byte, error) {
	made, err := t.maker().CreateCACert(now.Add(-backdate), now.Add(t.caValidity))
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	bundle := bytes.Clone(made.CertPEM)
	for _, ca := range cas {
		if ca.NotAfter.After(now) {
			bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
		}
	}
	data := map[string][]byte{keyCA: bundle, keyCAKey: made.KeyPEM, keyServer: have[keyServer], keyKey: have[keyKey]}
	if t.serves(data, cas, now) {
		return data, nil
	}
	return t.newServer(data, made.Cert, now)
}

func (t terms) newServer(have map[string][]byte, ca *x509.Certificate, now time.Time) (map[string][]byte, error) {
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), have[keyCAKey])
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	key, err := rsaKey(pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	end := now.Add(t.validity)
	if end.After(ca.NotAfter) {
		end = ca.NotAfter
	}
	cert, certKey, err := t.maker().CreateCertPEM(&rotator.KeyPairArtifacts{Cert: ca, Key: key}, now.Add(-backdate), end)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return map[string][]byte{keyCA: have[keyCA], keyCAKey: have[keyCAKey], keyServer: cert, keyKey: certKey}, nil
}

// prune takes expired CAs out of the bundle.
func (t terms) prune(have map[string][]byte, cas []*x509.Certificate, now time.Time) (map[string][]byte, bool, error) {
	var bundle []byte
	for _, ca := range cas {
		if ca.NotAfter.After(now) {
			bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
		}
	}
	if len(authorities(bundle)) == len(cas) {
		return have, false, nil
	}
	return map[string][]byte{keyCA: bundle, keyCAKey: have[keyCAKey], keyServer: have[keyServer], keyKey: have[keyKey]}, true, nil
}

// serves reports whether the certificate is good at that time, for all names, by
// one of these CAs.
func (t terms) serves(data map[string][]byte, cas []*x509.Certificate, at time.Time) bool {
	for _, ca := range cas {
		good := true
		for _, name := range t.names {
			ok, err := rotator.ValidCert(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
				data[keyServer], data[keyKey], name, &serverAuth, at)
			good = good && ok && err == nil
		}
		if good {
			return true
		}
	}
	return false
}

var serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

func (t terms) maker() *rotator.CertRotator {
	return &rotator.CertRotator{
		CAName: "quorate-ca", CAOrganization: "quorate",
		DNSName: t.names[0], ExtraDNSNames: t.names[1:], ExtKeyUsages: &serverAuth,
	}
}
