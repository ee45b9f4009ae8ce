package eviction

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

// timing is shorter than the law, since no request stalls here for longer than the
// API server's 10 s of retries.
var timing = admission.Timing{TTL: 20 * time.Second, Arm: 2 * time.Second, Repeat: 8 * time.Second, Keep: 12 * time.Second}

const replicaEnv = "QUORATE_TEST_REPLICA"

// replicaConfig is what a replica process is told.
type replicaConfig struct {
	Kubeconfig, Address, Cert, Key string
	// Conflicts in percent of the writes that are refused as if somebody else wrote.
	Conflicts int
}

// TestMain runs a replica of the guard instead of the tests where it is told so.
func TestMain(m *testing.M) {
	if text := os.Getenv(replicaEnv); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(text string) error {
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	if err := fs.Parse([]string{"-v=2"}); err != nil {
		return err
	}
	log.SetLogger(klog.Background())
	var c replicaConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	rc.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	cl, err := client.New(rc, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	g, err := admission.New(admission.Config{
		Cluster:  &contended{Cluster: admission.Live{Reader: cl, Writer: cl}, percent: c.Conflicts},
		Examiner: heard{&probe.Examiner{}}, Timing: timing,
	})
	if err != nil {
		return err
	}
	mux := serveMux{http.NewServeMux()}
	g.Register(mux)
	server := &http.Server{
		Addr: c.Address, Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: each review may meet another replica
	}
	server.SetKeepAlivesEnabled(false)
	return server.ListenAndServeTLS(c.Cert, c.Key)
}

// roundBegun is what a replica says for each round of probes.
const roundBegun = "Asking all members"

type heard struct{ admission.Examiner }

func (h heard) Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	klog.FromContext(ctx).Info(roundBegun)
	return h.Examiner.Examine(ctx, e, pods)
}

type serveMux struct{ *http.ServeMux }

func (m serveMux) Register(path string, hook http.Handler) { m.Handle(path, hook) }

// conflictInjected is what a replica says for each.
const conflictInjected = "Refused a write"

// contended refuses some writes, the first among them, as if somebody else had been
// faster.
type contended struct {
	admission.Cluster
	percent int
	first   atomic.Bool
}

func (c *contended) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if rand.IntN(100) < c.percent || c.percent > 0 && c.first.CompareAndSwap(false, true) {
		klog.FromContext(ctx).Info(conflictInjected)
		return apierrors.NewConflict(schema.GroupResource{Group: "quorate.io", Resource: "ensembles"}, e.Name, errors.New("injected"))
	}
	return c.Cluster.UpdateStatus(ctx, e)
}

// replica is one process of the guard.
type replica struct {
	*lab.Process
	address string
}

func (r *rig) startReplica(t testing.TB, n, conflicts int) *replica {
	t.Helper()
	address := freeAddress(t)
	text, err := json.Marshal(replicaConfig{
		Kubeconfig: r.plane.Kubeconfig(), Address: address, Cert: r.cert, Key: r.key, Conflicts: conflicts,
	})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: fmt.Sprintf("guard-%d", n), Path: self, Env: []string{replicaEnv + "=" + string(text)}, LogDir: r.plane.Logs(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	err = lab.Await(t.Context(), time.Minute, "the guard's port", func(ctx context.Context) error {
		conn, err := dial(ctx, address)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return &replica{Process: p, address: address}
}

// judged are the lines in which the replicas say what they decided.
func (r *rig) judged(t testing.TB) []string { return r.said(t, "Judged request") }

// said are the lines of the replicas' logs that say so.
func (r *rig) said(t testing.TB, what string) (lines []string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(r.plane.Logs(), "guard-*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, what) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}
