package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/extender"
	"github.com/quorate/quorate/test/lab"
)

// One control plane serves all tests; each has a namespace, an extender and a
// scheduler of its own.
var (
	plane     *lab.ControlPlane
	ensembles rest.Interface
	zoneOf    = map[string]string{}
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var err error
	if plane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Progress: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Close()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if dir := os.Getenv("QUORATE_LOGS"); dir != "" {
		if err := plane.KeepLogs(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}

// prepare makes the Ensemble known and gives the cluster three zones of four hosts.
func prepare(ctx context.Context) error {
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	for _, file := range []string{deploy.EnsembleCRD, deploy.VoterPolicy} {
		if _, err := plane.Kubectl(ctx, "apply", "-f", filepath.Join(root, "deploy", file)); err != nil {
			return err
		}
		if _, err := plane.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd/ensembles.quorate.io"); err != nil {
			return err
		}
	}
	if ensembles, err = membership.NewClient(plane.RESTConfig()); err != nil {
		return err
	}
	nodes := lab.Hosts(4, "a", "b", "c")
	for i := range nodes {
		zoneOf[nodes[i].Name] = nodes[i].Zone
		nodes[i].Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("1000"),
		}
	}
	return plane.CreateNodes(ctx, nodes...)
}

// timing of the tests: a bind that was given up on lands within 2 s here, and within
// thrice that on a machine that has much else to do.
var timing = extender.Timing{Landing: 6 * time.Second, Lag: 6 * time.Second, Failed: 12 * time.Second}

// extenderProcess is the product's extender, run from its library so that a test can
// end and restart it on the same port.
type extenderProcess struct {
	address string
	stop    func()
}

func startExtender(t testing.TB, address string) *extenderProcess {
	t.Helper()
	return runExtender(t, address, timing, nil)
}

// runExtender with that timing, beside a scheduler that is elected by the Lease, if one
// is named.
func runExtender(t testing.TB, address string, timing extender.Timing, lease *types.NamespacedName) *extenderProcess {
	t.Helper()
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logr.Discard()))
	informer := membership.NewInformer(membership.SourcesOf(plane.Client, ensembles), nil)
	annotator := extender.NewAnnotator(plane.Client)
	placer := extender.NewPlacer(extender.PlacerConfig{Membership: informer, Poker: annotator, Timing: timing})
	keeper := membership.NewKeeper(informer, ensembles)
	server, err := extender.NewServer(extender.ServerConfig{Placer: placer, BindAddress: address})
	if err != nil {
		t.Fatal(err)
	}
	parts := []func(context.Context) error{informer.Run, annotator.Run, placer.Run, keeper.Run, server.Run}
	if lease != nil {
		parts = append(parts, (&extender.LeaseWatch{Client: plane.Client, Lease: *lease, Placer: placer}).Run)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range parts {
		group.Go(func() error { return f(ctx) })
	}
	p := &extenderProcess{address: server.Addr().String(), stop: sync.OnceFunc(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(p.stop)
	awaitReady(t, p.address)
	return p
}

func awaitReady(t testing.TB, address string) {
	t.Helper()
	if err := lab.Await(t.Context(), time.Minute, "the extender", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// startScheduler starts the default scheduler, a real one, configured as deploy/ says,
// that asks the extender at the address; its words to the API server pass through f, if
// there is one.
func startScheduler(t *testing.T, name, address string, f *faults) {
	t.Helper()
	runScheduler(t, "scheduler-"+name, corev1.DefaultSchedulerName, address, f, nil)
}

// runScheduler for the pods that name it, elected by the Lease, if one is named.
func runScheduler(t *testing.T, process, name, address string, f *faults, lease *types.NamespacedName) *lab.Scheduler {
	t.Helper()
	config := shippedConfiguration(t)
	config.Extenders[0].URLPrefix = "http://" + address
	config.Profiles[0].SchedulerName = &name
	config.LeaderElection.LeaderElect = new(lease != nil)
	if lease != nil {
		config.LeaderElection.ResourceNamespace, config.LeaderElection.ResourceName = lease.Namespace, lease.Name
		config.LeaderElection.LeaseDuration = metav1.Duration{Duration: 5 * time.Second}
		config.LeaderElection.RenewDeadline = metav1.Duration{Duration: 3 * time.Second}
		config.LeaderElection.RetryPeriod = metav1.Duration{Duration: time.Second}
	}
	config.ClientConnection.QPS, config.ClientConnection.Burst = 500, 1000
	if f != nil {
		config.ClientConnection.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
		text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: %q}}]\n", f.server.URL)
		if err := os.WriteFile(config.ClientConnection.Kubeconfig, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := plane.StartScheduler(t.Context(), lab.SchedulerConfig{Name: process, Configuration: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// shippedConfiguration is the one in deploy/components/scheduler.
func shippedConfiguration(t testing.TB) *schedulerv1.KubeSchedulerConfiguration {
	t.Helper()
	text, err := deploy.Files.ReadFile(deploy.SchedulerConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	var configMap corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &configMap); err != nil {
		t.Fatal(err)
	}
	config := &schedulerv1.KubeSchedulerConfiguration{}
	if err := yaml.UnmarshalStrict([]byte(configMap.Data["scheduler.yaml"]), config); err != nil {
		t.Fatal(err)
	}
	return config
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// namespace makes one that is protected, and takes its pods away in the end.
func namespace(t testing.TB, name string) string {
	t.Helper()
	_, err := plane.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{deploy.GuardLabel: "enabled"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := plane.Client.CoreV1().Pods(name).DeleteCollection(ctx, *metav1.NewDeleteOptions(0), metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		if err := ensembles.Delete().Namespace(name).Resource("ensembles").Do(ctx).Error(); err != nil {
			t.Error(err)
		}
	})
	return name
}

// createEnsemble declares one that protects its zones.
func createEnsemble(t testing.TB, namespace, name string, voters int32) {
	t.Helper()
	e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	e.Spec.Selector = v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{ensembleLabel: v1alpha1.LabelValue(name)}}
	e.Spec.Voters, e.Spec.System = &voters, v1alpha1.Generic
	e.Spec.Topology = []v1alpha1.TopologyLevel{{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: v1alpha1.DoNotSchedule}}
	if err := ensembles.Post().Namespace(namespace).Resource("ensembles").Body(e).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
}

// memberPod is a pod as users write it: it does not ask for a voter's place; the
// policy does that for it.
func memberPod(namespace, ensemble string, i int) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: fmt.Sprintf("%s-%d", ensemble, i), Labels: map[string]string{ensembleLabel: ensemble},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: "member", Image: "member"}}
	return pod
}

// apart is a member pod of a test beside others, whose scheduler has the name of the
// namespace. It asks for a voter's place by itself: the policy is for pods of the default
// scheduler.
func apart(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.SchedulerName = pod.Namespace
	one := corev1.ResourceList{v1alpha1.VoterResource: resource.MustParse("1")}
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
	return pod
}

func createPods(t testing.TB, pods ...*corev1.Pod) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for _, pod := range pods {
		group.Go(func() error {
			_, err := plane.Client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// awaitPolicy waits until the API server's admission knows the ensemble: it hears of
// it through a watch, and a pod that is created in between does not ask for a voter's
// place.
func awaitPolicy(t *testing.T, namespace, ensemble string) {
	t.Helper()
	if err := lab.Await(t.Context(), time.Minute, "the voter policy", func(ctx context.Context) error {
		pod, err := plane.Client.CoreV1().Pods(namespace).Create(ctx, memberPod(namespace, ensemble, 99), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if _, asks := pod.Spec.Containers[0].Resources.Requests[v1alpha1.VoterResource]; !asks {
			return errors.New("a member pod does not request " + v1alpha1.VoterResource)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
