package probe

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
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// authority signs certificates for 127.0.0.1, for one test.
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
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate for 127.0.0.1, and its key, in PEM.
func (a *authority) issue(t *testing.T) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

// secrets of one namespace.
type secrets map[string]map[string][]byte

func (s secrets) read(_ context.Context, _, name string) (map[string][]byte, error) {
	if data, ok := s[name]; ok {
		return data, nil
	}
	return nil, errors.New("not found")
}

func onePod(e *v1alpha1.Ensemble) (*v1alpha1.Ensemble, []corev1.Pod) {
	e.Spec.Selector = v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zk"}}
	return e, []corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Name: "zk-0", UID: "pod-0", Labels: map[string]string{"app": "zk"}},
		Status:     corev1.PodStatus{PodIP: "127.0.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}}
}

// A server that asks for our certificate is heard with the Secret's identity, by one
// who trusts the Secret's authority; without either it is unseen, and says why.
func TestExamineOverTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	l := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})
	z := &zkServer{words: map[string]string{"srvr": srvrOfLeader}, config: "server.1=zk-0.zk:1:2:participant\nversion=1\n"}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go z.serve(c)
		}
	}()
	client, clientKey := ours.issue(t)
	x := &Examiner{Secret: secrets{
		"good":      {"ca.crt": ours.pem, "tls.crt": client, "tls.key": clientKey},
		"stranger":  {"ca.crt": others.pem, "tls.crt": client, "tls.key": clientKey},
		"anonymous": {"ca.crt": ours.pem},
		"broken":    {"ca.crt": []byte("no certificate")},
	}.read}
	for name, good := range map[string]bool{"good": true, "stranger": false, "anonymous": false, "broken": false, "missing": false} {
		e, pods := onePod(&v1alpha1.Ensemble{Spec: v1alpha1.EnsembleSpec{System: v1alpha1.ZooKeeper, Probe: &v1alpha1.ProbeSpec{
			ZooKeeper: &v1alpha1.ZooKeeperProbe{ClientPort: portOf(l.Addr()), AdminPort: ptr.To[int32](0), TLS: &v1alpha1.ProbeTLS{SecretName: name}},
		}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		v := x.Examine(ctx, e, pods)
		cancel()
		if v.Known != good || (v.Synced.Len() == 1) != good || good == (v.Members[0].Reason != "") {
			t.Errorf("secret %q: known=%t %s, member %+v", name, v.Known, v.Reason, v.Members[0])
		}
	}
}

// Who owns the pods is only read where the members told no configuration, and no number
// of voters is stated.
func TestReplicasAreReadWhereNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		voters *int32
		reads  int
	}{
		"told":             {"server.1=zk-0.zk:1:2:participant\nversion=1\n", nil, 0},
		"stated":           {"", ptr.To[int32](1), 0},
		"neither":          {"", nil, 1},
		"told, and stated": {"server.1=zk-0.zk:1:2:participant\nversion=1\n", ptr.To[int32](1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			z := &zkServer{words: map[string]string{"srvr": srvrOfLeader}, config: c.config}
			p, _ := z.start(t)
			e, pods := onePod(&v1alpha1.Ensemble{Spec: v1alpha1.EnsembleSpec{System: v1alpha1.ZooKeeper, Voters: c.voters, Probe: &v1alpha1.ProbeSpec{
				ZooKeeper: &v1alpha1.ZooKeeperProbe{ClientPort: p.ClientPort, AdminPort: ptr.To[int32](0)},
			}}})
			reads := 0
			x := &Examiner{Replicas: func(ctx context.Context, _ *v1alpha1.Ensemble, _ []corev1.Pod) (int, error) {
				reads++
				return 1, ctx.Err()
			}}
			v := x.Examine(t.Context(), e, pods)
			if !v.Known || v.Voters().Len() != 1 || reads != c.reads {
				t.Errorf("got known=%t (%s), %d voters and %d reads, want one voter and %d", v.Known, v.Reason, v.Voters().Len(), reads, c.reads)
			}
		})
	}
}

// mute members say nothing for as long as they are listened to.
type mute struct{}

func (mute) Probe(ctx context.Context, t Target) Answer {
	<-ctx.Done()
	return Answer{Target: t}
}

// A member that says nothing is waited for, but not for so long that no time is left to
// read who owns the pods.
func TestReplicasAreReadInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, pods := onePod(&v1alpha1.Ensemble{Spec: v1alpha1.EnsembleSpec{System: v1alpha1.Generic}})
		x := &Examiner{Replicas: func(ctx context.Context, _ *v1alpha1.Ensemble, _ []corev1.Pod) (int, error) { return 3, ctx.Err() }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if v := x.examine(ctx, e, pods, mute{}); !v.Known || v.Voters().Len() != 3 || v.Unseen.Len() != 3 {
			t.Errorf("got %s", picture(&v))
		}
	})
}

// Who was let go and is not back counts beside those who are there, although no
// StatefulSet tells of it any more.
func TestVotersAreNoFewerThanSeen(t *testing.T) {
	gone := func(reason string, names ...string) (g []v1alpha1.Grant) {
		for _, name := range names {
			g = append(g, v1alpha1.Grant{Name: name, PodUID: "old-" + name, Reason: reason})
		}
		return g
	}
	for name, c := range map[string]struct {
		system   v1alpha1.System
		replicas int
		grants   []v1alpha1.Grant
		want     int
	}{
		"as many as the StatefulSets tell": {v1alpha1.Generic, 5, gone("Eviction", "kv-3"), 5},
		"of a StatefulSet that is gone":    {v1alpha1.Generic, 3, gone("Eviction", "kv-3"), 4},
		"one, twice":                       {v1alpha1.Generic, 3, gone("Eviction", "kv-3", "kv-3"), 4},
		"back":                             {v1alpha1.Generic, 3, gone("Eviction", "kv-2"), 3},
		"meant to go":                      {v1alpha1.Generic, 3, gone(v1alpha1.GrantScaleDown, "kv-3"), 3},
		"not told":                         {v1alpha1.Generic, 0, gone("Eviction", "kv-3"), 0},
		"of a system with a leader":        {v1alpha1.ZooKeeper, 3, gone("Eviction", "kv-3"), 4},
		"too many to know who votes":       {v1alpha1.ZooKeeper, 2, gone("Eviction", "kv-3"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{Spec: v1alpha1.EnsembleSpec{System: c.system}, Status: v1alpha1.EnsembleStatus{Grants: c.grants}}
			var answers []Answer
			for i, role := range []Role{Leader, Follower, Follower, Observer} {
				answers = append(answers, Answer{Target: Target{Name: fmt.Sprintf("kv-%d", i)}, Heard: true, Serving: true, Role: role, Epoch: 1})
			}
			answers[3].Target.Name = "watcher"
			x := &Examiner{Replicas: func(context.Context, *v1alpha1.Ensemble, []corev1.Pod) (int, error) { return c.replicas, nil }}
			v := x.judge(t.Context(), e, nil, answers)
			if got := v.Voters().Len(); got != c.want || v.Known != (c.want > 0) {
				t.Errorf("got %d voters, known=%t %s, want %d", got, v.Known, v.Reason, c.want)
			}
		})
	}
}

// What was read a moment ago is not read again by those who look regularly, and is
// forgotten once the leader counts others.
func TestConfigsAreRemembered(t *testing.T) {
	z := &zkServer{words: map[string]string{"srvr": srvrOfLeader}, config: "server.1=zk-0.zk:1:2:participant\nversion=1\n"}
	prober, _ := z.start(t)
	e, pods := onePod(&v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{UID: "uid"}, Spec: v1alpha1.EnsembleSpec{Probe: &v1alpha1.ProbeSpec{
		ZooKeeper: &v1alpha1.ZooKeeperProbe{ClientPort: prober.ClientPort, AdminPort: ptr.To[int32](0)},
	}}})
	x := &Examiner{Configs: NewConfigs(8, time.Hour)}
	if v := x.Examine(t.Context(), e, pods); !v.Live || v.Synced.Len() != 1 {
		t.Fatalf("first look: %+v", v)
	}
	z.change(func() { z.config = "" }) // there is none any more
	if v := x.Examine(t.Context(), e, pods); !v.Live || v.Synced.Len() != 1 {
		t.Errorf("second look, at what is known: %+v", v)
	}
	fresh := &Examiner{}
	if v := fresh.Examine(t.Context(), e, pods); v.Live {
		t.Errorf("a decision rests on what was not read: %+v", v)
	}
	z.change(func() {
		z.words["mntr"] = "zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_quorum_size\t3\nzk_synced_followers\t0\n"
	})
	if v := x.Examine(t.Context(), e, pods); v.Known {
		t.Errorf("the leader counts three voters, we know one: %+v", v)
	}
	if _, known := x.Configs.known.Get("uid"); known {
		t.Error("it is still remembered")
	}
}

func TestGeneric(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/synced" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	g := &Generic{Port: portOf(server.Listener.Addr()), Path: "/synced"}
	target := loopback("kv-0")
	target.Ready = true
	check := func(what string, p Prober, heard, serving bool) {
		t.Helper()
		if a := p.Probe(t.Context(), target); a.Heard != heard || a.Serving != serving || (a.Reason == "") != serving {
			t.Errorf("%s: got heard=%t serving=%t %q", what, a.Heard, a.Serving, a.Reason)
		}
	}
	check("200", g, true, true)
	status = http.StatusServiceUnavailable
	check("503", g, true, false)
	status = http.StatusFound
	check("a redirect", g, true, false)
	check("readiness alone", &Generic{}, true, true)
	check("nobody there", &Generic{Port: nobody(t), Path: "/synced"}, false, false)
	target.Ready = false
	check("not ready", &Generic{}, true, false)
}

// Members of a generic system are taken at their word, one by one.
func TestExamineGeneric(t *testing.T) {
	e, pods := onePod(&v1alpha1.Ensemble{Spec: v1alpha1.EnsembleSpec{System: v1alpha1.Generic, Voters: ptr.To[int32](3)}})
	for _, name := range []string{"zk-1", "zk-2"} {
		p := *pods[0].DeepCopy()
		p.Name = name
		pods = append(pods, p)
	}
	pods[2].Status.Conditions[0].Status = corev1.ConditionFalse
	v := (&Examiner{}).Examine(t.Context(), e, pods)
	if !v.Known || v.Live || v.Synced != quorum.SetOf(0, 1) || v.Unseen != 0 || v.Without(quorum.SetOf(0), 0) != quorum.Unsafe || v.Without(quorum.SetOf(2), 0) != quorum.Safe {
		t.Errorf("got %s", picture(&v))
	}
}

// BenchmarkExamine is one look at five members through srvr and mntr, with servers in
// the same process.
func BenchmarkExamine(b *testing.B) {
	e, pods := onePod(&v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{UID: "uid"}})
	for range 4 {
		pods = append(pods, *pods[0].DeepCopy())
	}
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	z := &zkServer{words: map[string]string{
		"srvr": "Zxid: 0x500000007\nMode: follower\n", "mntr": "zk_server_state\tfollower\nzk_peer_state\tfollowing - broadcast\n",
	}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go z.serve(c)
		}
	}()
	e.Spec.Probe = &v1alpha1.ProbeSpec{ZooKeeper: &v1alpha1.ZooKeeperProbe{ClientPort: portOf(l.Addr()), AdminPort: ptr.To[int32](0)}}
	x := &Examiner{}
	b.ReportAllocs()
	for b.Loop() {
		if v := x.Examine(b.Context(), e, pods); len(v.Members) != 5 || v.Members[0].Answer.Source != "mntr" {
			b.Fatalf("not heard: %+v", v.Members[0].Answer)
		}
	}
}
