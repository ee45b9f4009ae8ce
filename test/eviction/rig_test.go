package eviction

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

const (
	namespace = "data"
	voters    = 5
)

// rig is a cluster with five live ZooKeeper members and, mostly, a guard.
type rig struct {
	plane     *lab.ControlPlane
	zk        *lab.Ensemble
	runner    *lab.Runner
	replicas  []*replica
	forward   *forwarder
	cert, key string
	ca        []byte
	ensembles client.Client

	wire sync.Mutex // held while links change: two servers share each of them

	mu      sync.Mutex // guards below
	members memberConfig
	healed  chan struct{} // closed when slow links are to be well again
}

// behave says how member pods behave from now on, and makes slow links well.
func (r *rig) behave(m memberConfig) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = m
	close(r.healed)
	r.healed = make(chan struct{})
}

// memberConfig is how member pods behave.
type memberConfig struct {
	// late is for how long a restarted server's links to its peers are slow, so that
	// it resyncs slowly.
	late time.Duration
	// ruok makes a pod ready as soon as its process runs, as the usual probes do.
	ruok bool
}

// untilHealed is late enough that links stay slow until behave makes them well.
const untilHealed = time.Hour

func newRig(t testing.TB) *rig {
	t.Helper()
	ctx := t.Context()
	r := &rig{healed: make(chan struct{})}
	var starts errgroup.Group // side by side, since each waits for processes of its own
	starts.Go(func() (err error) {
		r.plane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Controllers: true, Scheduler: true, Progress: t.Output()})
		return err
	})
	starts.Go(func() (err error) {
		r.zk, err = lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{
			Voters: voters, PeerLinks: true,
			// A lost peer's link accepts, and tells nothing: do not wait for it long.
			InitLimit: 12, Properties: map[string]string{"cnxTimeout": "500"},
		})
		return err
	})
	err := starts.Wait()
	if r.plane != nil {
		t.Cleanup(func() {
			if t.Failed() {
				tails(t, r.plane.Logs())
			}
			if err := r.plane.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if r.zk != nil {
		t.Cleanup(func() { _ = r.zk.Close() })
	}
	if err != nil {
		t.Fatal(err)
	}
	r.cert, r.key, r.ca = certificate(t, r.plane.Dir)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if r.ensembles, err = client.New(r.plane.RESTConfig(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	r.kubectl(t, "apply", "-f", filepath.Join(root(t), "deploy/base/crd/quorate.io_ensembles.yaml"))
	r.kubectl(t, "create", "namespace", namespace)
	r.kubectl(t, "label", "namespace", namespace, "quorate.io/guard=enabled")
	if err := r.plane.CreateNodes(ctx, lab.Hosts(2*voters, "a")...); err != nil {
		t.Fatal(err)
	}
	if r.runner, err = r.plane.StartRunner(ctx, r.start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.runner.Close() })
	if _, err := r.plane.Client.AppsV1().StatefulSets(namespace).Create(ctx, statefulSet(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.await(t, "all members to be ready", r.ready)
	return r
}

// guard starts replicas of the guard and registers them.
func (r *rig) guard(t testing.TB, replicas, conflicts int) {
	t.Helper()
	r.forward = forward(t)
	var addresses []string
	for i := range replicas {
		p := r.startReplica(t, i, conflicts)
		r.replicas = append(r.replicas, p)
		addresses = append(addresses, p.address)
	}
	r.forward.set(addresses...)
	e := &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "zk"},
		Spec: v1alpha1.EnsembleSpec{
			System:   v1alpha1.ZooKeeper,
			Selector: v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zk"}},
		},
	}
	if err := r.ensembles.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	// Nothing was allowed here before, so that there is nothing to wait for.
	e.Status.Guard = &v1alpha1.GuardStatus{UID: string(e.UID), Armed: true}
	if err := r.ensembles.Status().Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"validating.yaml", "mutating.yaml"} {
		r.kubectl(t, "apply", "-f", r.webhook(t, file))
	}
	r.await(t, "the guard to judge", func(ctx context.Context) error {
		out, err := r.plane.Kubectl(ctx, "delete", "pod", "zk-0", "-n", namespace, "--dry-run=server")
		if err != nil {
			return err
		}
		if len(r.judged(t)) == 0 {
			return errors.New("nobody judged: " + out)
		}
		return nil
	})
}

// webhook is the configuration that we ship, with a URL in place of the Service.
func (r *rig) webhook(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "deploy/base/webhook", file))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(line, "service: {name: quorate-webhook, namespace: quorate-system, path: "); ok {
			path, _, _ := strings.Cut(path, ",")
			fmt.Fprintf(&out, "    url: https://%s%s\n    caBundle: %s\n", r.forward.Addr(), path, base64.StdEncoding.EncodeToString(r.ca))
			continue
		}
		out.WriteString(line)
	}
	name := filepath.Join(r.plane.Dir, file)
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (r *rig) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := r.plane.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rig) await(t testing.TB, what string, f func(context.Context) error) {
	t.Helper()
	if err := lab.Await(t.Context(), 4*time.Minute, what, f); err != nil {
		t.Fatal(err)
	}
}

// ready reports whether all members are there and ready.
func (r *rig) ready(ctx context.Context) error {
	s, err := r.plane.Client.AppsV1().StatefulSets(namespace).Get(ctx, "zk", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if s.Status.ReadyReplicas < voters {
		return fmt.Errorf("%d of %d members are ready", s.Status.ReadyReplicas, voters)
	}
	return nil
}

func (r *rig) pod(t testing.TB, i int) *corev1.Pod {
	t.Helper()
	p, err := r.plane.Client.CoreV1().Pods(namespace).Get(t.Context(), "zk-"+strconv.Itoa(i), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// as is a client that speaks as somebody.
func (r *rig) as(t testing.TB, user string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(r.plane.RESTConfigAs(user, groups...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// statefulSet of five members, each on a host of its own, all at once.
func statefulSet() *appsv1.StatefulSet {
	labels := map[string]string{"app": "zk"}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "zk"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](voters), ServiceName: "zk", PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](5),
					Containers:                    []corev1.Container{{Name: "zookeeper", Image: "zookeeper"}},
					Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
							LabelSelector: &metav1.LabelSelector{MatchLabels: labels}, TopologyKey: corev1.LabelHostname,
						}},
					}},
				},
			},
		},
	}
}

// server is the one of the pod's ordinal: it keeps address and data when it moves.
func (r *rig) server(pod *corev1.Pod) (*lab.Server, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(pod.Name, "zk-"))
	if err != nil {
		return nil, fmt.Errorf("run pod %s: %w", pod.Name, err)
	}
	return r.zk.Server(n + 1), nil
}

// start runs a member, or adopts the server that runs from the beginning.
func (r *rig) start(ctx context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
	s, err := r.server(pod)
	if err != nil {
		return nil, "", err
	}
	address, _, _ := strings.Cut(s.Addr(), ":")
	r.mu.Lock()
	members, healed := r.members, r.healed
	r.mu.Unlock()
	w := &workload{server: s, ruok: members.ruok}
	if s.Running() {
		return w, address, nil
	}
	if members.late > 0 {
		if err := r.slow(ctx, w, members.late, healed); err != nil {
			return nil, "", err
		}
	}
	if err := s.Start(ctx); err != nil {
		w.restore()
		return nil, "", err
	}
	return w, address, nil
}

// slow keeps what a server and its peers tell each other from arriving, for a while.
func (r *rig) slow(ctx context.Context, w *workload, late time.Duration, healed <-chan struct{}) error {
	links := r.zk.PeerLinks(w.server.ID())
	if err := r.change(links, (*lab.Link).Drop); err != nil {
		return errors.Join(err, r.change(links, (*lab.Link).Restore))
	}
	run, cancel := context.WithTimeout(context.WithoutCancel(ctx), late)
	w.cancel = cancel
	w.wait.Go(func() {
		select {
		case <-run.Done():
		case <-healed:
		}
		if err := r.change(links, (*lab.Link).Restore); err != nil {
			klog.FromContext(ctx).Error(err, "Could not make a link well")
		}
	})
	return nil
}

// change does the same to all links, though one fails.
func (r *rig) change(links []*lab.Link, do func(*lab.Link) error) error {
	r.wire.Lock()
	defer r.wire.Unlock()
	var errs []error
	for _, l := range links {
		errs = append(errs, do(l))
	}
	return errors.Join(errs...)
}

type workload struct {
	server *lab.Server
	ruok   bool
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func (w *workload) Ready(ctx context.Context) error {
	if w.ruok {
		answer, err := w.server.FourLetters(ctx, "ruok")
		if err == nil && answer != "imok" {
			err = fmt.Errorf("ruok: %q", answer)
		}
		return err
	}
	_, err := w.server.Mode(ctx)
	return err
}

func (w *workload) Stop(ctx context.Context) error {
	err := w.server.Stop(ctx)
	w.restore()
	return err
}

// restore makes slow links well at once, and waits for it.
func (w *workload) restore() {
	if w.cancel != nil {
		w.cancel()
		w.wait.Wait()
	}
}

func (w *workload) Done() <-chan struct{} { return w.server.Process().Done() }

func root(t testing.TB) string {
	t.Helper()
	dir, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tails shows how the logs end.
func tails(t testing.TB, dir string) {
	_ = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		t.Logf("%s ends:\n%s", path, text[max(0, len(text)-4000):])
		return err
	})
}
