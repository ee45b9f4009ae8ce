package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Examiner makes views of ensembles out of their objects and pods. It keeps nothing
// between two examinations, but for Configs.
type Examiner struct {
	// Secret reads a Secret's data. Nil: ensembles that name one are unseen.
	Secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// Replicas is how many voters the StatefulSets of the members are to have, whichever
	// of their pods are there. It is asked for ensembles that neither tell nor state their
	// voters. Nil or an error: not known.
	Replicas func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (int, error)
	// Configs that are known already. Nil, as it must be for decisions: each is read
	// afresh.
	Configs *Configs
}

// Examine asks all pods, which must be all members of the Ensemble, and judges what
// they say. It returns by the time ctx ends.
func (x *Examiner) Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) View {
	prober, err := x.Prober(ctx, e)
	if err != nil {
		return x.judge(ctx, e, pods, unasked(Targets(e, pods), err))
	}
	x.Configs.spare(e.UID, prober)
	return x.examine(ctx, e, pods, prober)
}

func (x *Examiner) examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod, p Prober) View {
	answers := x.ask(ctx, e, p, Targets(e, pods))
	x.Configs.complete(e.UID, answers)
	v := x.judge(ctx, e, pods, answers)
	x.Configs.forget(e.UID, &v)
	return v
}

// ask leaves a quarter of the time for what judge may read: one silent member takes all
// that it is given.
func (x *Examiner) ask(ctx context.Context, e *v1alpha1.Ensemble, p Prober, targets []Target) []Answer {
	if deadline, ok := ctx.Deadline(); ok && x.Replicas != nil && e.Spec.Voters == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)*3/4)
		defer cancel()
	}
	return Ask(ctx, p, targets)
}

// judge counts the replicas only where the members did not tell who votes, and nobody
// stated it.
func (x *Examiner) judge(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod, answers []Answer) View {
	r, now := rules(e), time.Now()
	v := Judge(answers, r, now)
	if v.Live || r.Voters > 0 || x.Replicas == nil {
		return v
	}
	n, err := x.Replicas(ctx, e, pods)
	if err != nil {
		return v
	}
	r.Voters = v.atLeast(n, e, r)
	return Judge(answers, r, now)
}

// atLeast is the number of voters, or that of those who are there and those who were let
// go and are not back, if that is more: not all of them may be of a StatefulSet that is
// still there. Where members that vote are too many for a system that tells who leads,
// which of them count is not known, and stays so.
func (v *View) atLeast(n int, e *v1alpha1.Ensemble, r Rules) int {
	there, gone := 0, map[string]bool{}
	for i := range v.Members {
		if v.Members[i].Votes {
			there++
		}
	}
	for _, g := range e.Status.Grants {
		if g.Reason != v1alpha1.GrantScaleDown && v.Index(g.Name) < 0 {
			gone[g.Name] = true
		}
	}
	if n == 0 || there > n && !r.Leaderless {
		return n
	}
	return max(n, there+len(gone))
}

func unasked(targets []Target, err error) []Answer {
	answers := make([]Answer, len(targets))
	for i := range targets {
		answers[i] = Answer{Target: targets[i], Reason: err.Error()}
	}
	return answers
}

// Targets are the pods as members to ask.
func Targets(e *v1alpha1.Ensemble, pods []corev1.Pod) []Target {
	observers, err := e.Spec.Observers.Compile()
	if err != nil {
		observers = labels.Nothing()
	}
	known := map[string]string{}
	for _, m := range e.Status.Members {
		known[m.Name] = m.ServerID
	}
	targets := make([]Target, len(pods))
	for i := range pods {
		p := &pods[i]
		ip, err := netip.ParseAddr(p.Status.PodIP)
		if err != nil {
			ip = netip.Addr{}
		}
		targets[i] = Target{
			Name: p.Name, UID: p.UID, IP: ip, Ready: ready(p),
			Observer: observers.Matches(labels.Set(p.Labels)),
			ServerID: known[p.Name],
		}
	}
	return targets
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// rules that the Ensemble states.
func rules(e *v1alpha1.Ensemble) Rules {
	r := Rules{Leaderless: e.Spec.System == v1alpha1.Generic, Quorum: e.Spec.Quorum}
	if e.Spec.Voters != nil {
		r.Voters = int(*e.Spec.Voters)
	}
	return r
}

// Prober for the Ensemble's system, with the trust and the credentials that its
// Secrets hold.
func (x *Examiner) Prober(ctx context.Context, e *v1alpha1.Ensemble) (Prober, error) {
	spec := or(e.Spec.Probe, &v1alpha1.ProbeSpec{})
	switch e.Spec.System {
	case v1alpha1.Etcd:
		s := or(spec.Etcd, &v1alpha1.EtcdProbe{})
		c, err := x.tls(ctx, e.Namespace, s.TLS)
		return &Etcd{ClientPort: or(s.ClientPort, 2379), TLS: c}, err
	case v1alpha1.Generic:
		s := or(spec.Generic, &v1alpha1.GenericProbe{})
		c, err := x.tls(ctx, e.Namespace, s.TLS)
		return &Generic{Port: s.Port, Path: s.Path, TLS: c}, err
	case v1alpha1.ZooKeeper, "":
		return x.zooKeeper(ctx, e.Namespace, or(spec.ZooKeeper, &v1alpha1.ZooKeeperProbe{}))
	}
	return nil, fmt.Errorf("system %q is not known", e.Spec.System)
}

func (x *Examiner) zooKeeper(ctx context.Context, namespace string, s *v1alpha1.ZooKeeperProbe) (Prober, error) {
	z := &ZooKeeper{ClientPort: or(s.ClientPort, 2181), AdminPort: 8080, AdminTLS: s.AdminTLS}
	if s.AdminPort != nil {
		z.AdminPort = *s.AdminPort
	}
	var err error
	if z.TLS, err = x.tls(ctx, namespace, s.TLS); err != nil {
		return nil, err
	}
	if s.Auth != nil {
		data, err := x.secret(ctx, namespace, s.Auth.SecretName)
		if err != nil {
			return nil, err
		}
		z.Auth = &Digest{User: string(data["username"]), Password: string(data["password"])}
	}
	return z, nil
}

func (x *Examiner) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	if x.Secret == nil {
		return nil, errors.New("no Secrets are read here")
	}
	data, err := x.Secret(ctx, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return data, nil
}

// tls is nil where none is asked for. Without ca.crt the system's authorities are
// trusted; there is no way to trust everybody.
func (x *Examiner) tls(ctx context.Context, namespace string, s *v1alpha1.ProbeTLS) (*tls.Config, error) {
	if s == nil {
		return nil, nil
	}
	data, err := x.secret(ctx, namespace, s.SecretName)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if ca := data["ca.crt"]; len(ca) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("secret %s: ca.crt holds no certificate", s.SecretName)
		}
	}
	if cert, key := data["tls.crt"], data["tls.key"]; len(cert)+len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.SecretName, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
