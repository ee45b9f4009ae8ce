package scheduler

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/extender"
	"github.com/quorate/quorate/test/bench"
	"github.com/quorate/quorate/test/lab"
)

// variant is one way to place the same pods: groups of three over three zones.
type variant struct {
	name string
	// extender that the scheduler asks; empty: none.
	extender string
	// shape makes a pod of the group what the variant needs.
	shape func(pod *corev1.Pod, group string)
	// ensembles are declared for the groups.
	ensembles bool
}

func asVoter(pod *corev1.Pod, _ string) {
	one := corev1.ResourceList{v1alpha1.VoterResource: resource.MustParse("1")}
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
}

func groupOf(group string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{ensembleLabel: group}}
}

func variants(ours, through string) []variant {
	plain := func(*corev1.Pod, string) {}
	return []variant{
		{name: "no extender", shape: plain},
		{name: "ours, non-members", extender: ours, shape: plain},
		{name: "ours, members", extender: ours, shape: asVoter, ensembles: true},
		{name: "pass-through extender", extender: through, shape: asVoter},
		{name: "topologySpreadConstraints", shape: func(pod *corev1.Pod, group string) {
			pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone,
				WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: groupOf(group)}}
		}},
		{name: "required anti-affinity", shape: func(pod *corev1.Pod, group string) {
			pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: corev1.LabelTopologyZone, LabelSelector: groupOf(group)}}}}
		}},
	}
}

// number reads a positive setting of the measurement.
func number(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		b.Fatalf("%s=%q: want a number above 0", name, text)
	}
	return n
}

// BenchmarkScheduler measures pods per second, from the first to the last binding,
// of a real scheduler. All variants run by turns, five times over; what is recorded
// are the medians, and the ratios of each turn. QUORATE_BENCH_NODES,
// QUORATE_BENCH_GROUPS and QUORATE_BENCH_PAIRS change the size.
func BenchmarkScheduler(b *testing.B) {
	groups, pairs := number(b, "QUORATE_BENCH_GROUPS", 100), number(b, "QUORATE_BENCH_PAIRS", 5)
	sizes := []int{1000, 5000}
	if n := number(b, "QUORATE_BENCH_NODES", 1); n > 1 {
		sizes = []int{n}
	}
	made := 0
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			grow(b, &made, size)
			ours := startExtender(b, "127.0.0.1:0").address
			through := control(b, func(_ *corev1.Pod, names []string) extender.Answer {
				return extender.Answer{Outcome: extender.Placed, Nodes: names}
			})
			rates := map[string][]float64{}
			for turn := range pairs {
				for i, v := range variants(ours, through) {
					rates[v.name] = append(rates[v.name], throughput(b, v, fmt.Sprintf("b%d-%d-%d", size, turn, i), groups))
				}
			}
			for _, c := range []struct{ of, peer string }{
				{"ours, non-members", "no extender"}, {"ours, members", "pass-through extender"},
				{"ours, members", "topologySpreadConstraints"}, {"ours, members", "required anti-affinity"}, {"ours, members", "no extender"},
			} {
				bench.RecordPairs(b, fmt.Sprintf("scheduler: %d nodes, %s", size, c.of), rates[c.of], "pods/s", c.peer, rates[c.peer])
			}
		})
	}
}

// grow makes the cluster have that many nodes.
func grow(b *testing.B, made *int, size int) {
	b.Helper()
	var nodes []lab.Node
	for ; *made < size; *made++ {
		name, zone := fmt.Sprintf("bench-%04d", *made), string("abc"[*made%3])
		nodes = append(nodes, lab.Node{Name: name, Zone: zone})
	}
	if err := plane.CreateNodes(b.Context(), nodes...); err != nil {
		b.Fatal(err)
	}
}

// throughput starts a scheduler on pods that wait for it.
func throughput(b *testing.B, v variant, run string, groups int) float64 {
	b.Helper()
	ns := namespace(b, run)
	defer empty(b, ns)
	var pods []*corev1.Pod
	for g := range groups {
		group := fmt.Sprintf("g%03d", g)
		if v.ensembles {
			createEnsemble(b, ns, group, 3)
		}
		for i := range 3 {
			pod := memberPod(ns, group, i)
			pod.Spec.SchedulerName = run
			v.shape(pod, group)
			pods = append(pods, pod)
		}
	}
	createPods(b, pods...)
	list, err := plane.Client.CoreV1().Pods(ns).List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(b.Context(), list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return plane.Client.CoreV1().Pods(ns).Watch(ctx, o)
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	config := shippedConfiguration(b)
	config.LeaderElection.LeaderElect = new(false)
	config.Profiles = []schedulerv1.KubeSchedulerProfile{{SchedulerName: &run}}
	config.ClientConnection.QPS, config.ClientConnection.Burst = 5000, 10000
	config.Extenders[0].URLPrefix = "http://" + v.extender
	if v.extender == "" {
		config.Extenders = nil
	}
	s, err := plane.StartScheduler(b.Context(), lab.SchedulerConfig{Name: run, Configuration: config})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	return rate(b, w, len(pods))
}

// rate is pods per second from the first binding to the last.
func rate(b *testing.B, w watch.Interface, pods int) float64 {
	b.Helper()
	var first time.Time
	seen := map[string]bool{}
	deadline := time.After(5 * time.Minute)
	for len(seen) < pods {
		select {
		case e := <-w.ResultChan():
			if pod, ok := e.Object.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
				if len(seen) == 0 {
					first = time.Now()
				}
				seen[pod.Name] = true
			}
		case <-deadline:
			b.Fatalf("%d of %d pods were bound within five minutes", len(seen), pods)
		}
	}
	return float64(pods-1) / time.Since(first).Seconds()
}

// empty the namespace, so that the next run meets what this one met.
func empty(b *testing.B, ns string) {
	b.Helper()
	err := plane.Client.CoreV1().Pods(ns).DeleteCollection(b.Context(), *metav1.NewDeleteOptions(0), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if err := ensembles.Delete().Namespace(ns).Resource("ensembles").Do(b.Context()).Error(); err != nil {
		b.Fatal(err)
	}
}
