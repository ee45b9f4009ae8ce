package membership

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/bench"
)

// The fleet of the measurements.
const (
	fleetEnsembles = 1000
	fleetVoters    = 5
	fleetNodes     = 5000
	fleetOthers    = 150_000
)

func fleetNode(i int) string { return fmt.Sprintf("node-%04d", i%fleetNodes) }

func fleetZone(i int) string { return string(rune('a' + i%3)) }

func fleetNodeOf(i int) *corev1.Node {
	n := nodeOf(fleetNode(i), fleetZone(i), rackKey+"=r"+strconv.Itoa(i%60))
	for k := range 12 {
		n.Labels[fmt.Sprintf("example.com/label-%d", k)] = fmt.Sprint("value-", i%7)
	}
	return n
}

// fleetPod is member m of ensemble e; one bound pod in one namespace in two.
func fleetPod(e, m int) *corev1.Pod {
	p := podOf(fmt.Sprintf("zk-%d", m), fleetNode(e*fleetVoters+m))
	p.Namespace, p.UID = fmt.Sprint("team-", e), types.UID(fmt.Sprintf("00000000-0000-0000-%04d-%012d", e, m))
	return p
}

// fleet are the ensembles with all that they are made of, the nodes apart.
func fleet(yield func(kind string, o kruntime.Object)) {
	for e := range fleetEnsembles {
		namespace := fmt.Sprint("team-", e)
		ens := ensembleOf("zk", protect(v1alpha1.TopologyLevel{TopologyKey: hostKey}, v1alpha1.TopologyLevel{TopologyKey: rackKey, Within: zoneKey}, v1alpha1.TopologyLevel{TopologyKey: zoneKey}))
		set := setOf("zk", fleetVoters)
		ens.Namespace, set.Namespace = namespace, namespace
		yield("ensembles", ens)
		yield("statefulsets", set)
		for m := range fleetVoters {
			yield("pods", fleetPod(e, m))
			volume := pinned(fmt.Sprint("zk-", m), zoneKey, fleetZone(e*fleetVoters+m))
			claim, pv := volume[0].(*corev1.PersistentVolumeClaim), volume[1].(*corev1.PersistentVolume)
			claim.Namespace, pv.Spec.ClaimRef.Namespace = namespace, namespace
			pv.Name = fmt.Sprintf("pv-%d-%d", e, m)
			claim.Spec.VolumeName = pv.Name
			yield("persistentvolumeclaims", claim)
			yield("persistentvolumes", pv)
		}
	}
}

// other is a pod of somebody else, as it comes from the API server.
func other(i int) *corev1.Pod {
	app, namespace := fmt.Sprint("app-", i/10), fmt.Sprint("team-", i%fleetEnsembles)
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("%s-6d4cf56db6-%05d", app, i), UID: types.UID(fmt.Sprintf("00000000-0000-1111-0000-%012d", i)),
			Labels:          map[string]string{"app.kubernetes.io/name": app, "app.kubernetes.io/instance": app, "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": "6d4cf56db6"},
			Annotations:     map[string]string{"checksum/config": strings.Repeat("0", 64)},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app, UID: "00000000-0000-1111-0000-000000000000", Controller: &yes}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 2500))}},
		},
		Spec:   corev1.PodSpec{NodeName: fleetNode(i), SchedulerName: "default-scheduler", ServiceAccountName: "default"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"},
	}
	for range 2 {
		c := corev1.Container{Name: "main", Image: "registry/" + app + ":v1"}
		for k := range 10 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", k), Value: strings.Repeat("v", 40)})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	p.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300))},
	}
	return p
}

// lists feeds an informer through the very stores that its reflectors would use.
func fleetInformer(fail func(error), others int) *Informer {
	i := NewInformer(newCluster().sources(), nil)
	streams := map[string]cache.Store{}
	stores := map[string]*store{}
	for _, r := range i.resources() {
		s := &store{i, r}
		stores[r.name] = s
		streams[r.name] = cache.NewStore(cache.DeletionHandlingMetaNamespaceKeyFunc, cache.WithTransformer(s.Transformer()))
	}
	put := func(kind string, o kruntime.Object) {
		if err := streams[kind].Add(o); err != nil {
			fail(err)
		}
	}
	for n := range fleetNodes {
		put("nodes", fleetNodeOf(n))
	}
	fleet(put)
	for n := range others {
		bytes, err := other(n).Marshal()
		p := &corev1.Pod{}
		if err == nil {
			err = p.Unmarshal(bytes)
		}
		if err != nil {
			fail(err)
		}
		put("pods", p)
	}
	for _, kind := range []string{"nodes", "statefulsets", "persistentvolumes", "persistentvolumeclaims", "ensembles", "pods"} {
		if err := stores[kind].Replace(streams[kind].List(), ""); err != nil {
			fail(err)
		}
		delete(streams, kind)
	}
	return i
}

// update is one kind of change, told apart by its turn.
type update struct {
	name, kind string
	object     func(turn int) kruntime.Object
}

var updates = []update{
	{"a member's pod is bound", "pods", func(turn int) kruntime.Object {
		p := fleetPod(turn/2%fleetEnsembles, 0)
		if turn%2 == 0 {
			p.Spec.NodeName = ""
		}
		return p
	}},
	{"a pod of somebody else", "pods", func(turn int) kruntime.Object {
		p := other(turn % 1000)
		p.Spec.NodeName = fleetNode(turn)
		return p
	}},
	{"a node is labelled anew", "nodes", func(turn int) kruntime.Object {
		n := fleetNodeOf(turn / 2)
		if turn%2 == 0 {
			n.Labels[zoneKey] = "elsewhere"
		}
		return n
	}},
	{"a node's heartbeat", "nodes", func(turn int) kruntime.Object { return fleetNodeOf(turn) }},
	{"an ensemble is scaled", "statefulsets", func(turn int) kruntime.Object {
		s := setOf("zk", int32(fleetVoters-turn%2*2))
		s.Namespace = fmt.Sprint("team-", turn/2%fleetEnsembles)
		return s
	}},
	{"an ensemble's status is written", "ensembles", func(turn int) kruntime.Object {
		e := ensembleOf("zk", status(int32(fleetVoters-turn%2)))
		e.Namespace = fmt.Sprint("team-", turn/2%fleetEnsembles)
		return e
	}},
}

// How long one change of the fleet takes to be in the snapshot, beside what
// client-go's own indexed store takes for it.
func BenchmarkUpdate(b *testing.B) {
	i := fleetInformer(func(err error) { b.Fatal(err) }, fleetOthers)
	stores := map[string]*store{}
	for _, r := range i.resources() {
		stores[r.name] = &store{i, r}
	}
	for _, u := range updates {
		var per, floor float64
		b.Run(strings.ReplaceAll(u.name, " ", "-"), func(b *testing.B) {
			objects := make([]kruntime.Object, 2000)
			for turn := range objects {
				objects[turn] = u.object(turn)
			}
			turn, before := 0, i.Snapshot()
			b.ReportAllocs()
			for b.Loop() {
				if err := stores[u.kind].Update(objects[turn%len(objects)]); err != nil {
					b.Fatal(err)
				}
				turn++
			}
			per = float64(b.Elapsed().Nanoseconds()) / float64(b.N) / 1000
			if after := i.Snapshot(); (after == before) != (u.name == "a pod of somebody else" || u.name == "a node's heartbeat") && turn > 1 {
				b.Fatalf("the snapshot changed: %v", after != before)
			}
			floor = indexed(b, objects)
			b.ReportMetric(floor, "indexer-us/op")
		})
		bench.Record(b, "membership: "+u.name+", absorbed", per, "us", "client-go indexer", floor)
	}
}

// indexed is what client-go's own store takes for one of these updates, in us.
func indexed(b *testing.B, objects []kruntime.Object) float64 {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	start := time.Now()
	const rounds = 5
	for range rounds {
		for _, o := range objects {
			if err := indexer.Update(o); err != nil {
				b.Fatal(err)
			}
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(rounds*len(objects)) / 1000
}

const memoryChild = "QUORATE_MEMORY_CHILD"

// resident is what a process of its own says of its memory once it knows the fleet.
type resident struct{ RSS, Peak, Heap float64 }

// What the fleet and 150,000 other pods take in memory, beside a store that keeps
// those pods as a shared informer with the usual transform does.
func BenchmarkMemory(b *testing.B) {
	sizes := map[string]resident{}
	for b.Loop() {
		for _, who := range []string{"ours", "peer"} {
			c := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$")
			c.Env = append(os.Environ(), memoryChild+"="+who)
			c.Stderr = os.Stderr
			out, err := c.Output()
			if err != nil {
				b.Fatal(err)
			}
			var r resident
			if err := json.Unmarshal(out, &r); err != nil {
				b.Fatal(err)
			}
			sizes[who] = r
		}
	}
	b.ReportMetric(sizes["ours"].RSS, "MB-resident")
	b.ReportMetric(sizes["ours"].Peak, "MB-peak")
	b.ReportMetric(sizes["ours"].Heap, "MB-live")
	bench.Record(b, "membership: 1,000 ensembles, 5,000 nodes, 150,000 other pods, resident", sizes["ours"].RSS, "MB", "a store of the same pods without managedFields", sizes["peer"].RSS)
	bench.Record(b, "membership: the same, peak", sizes["ours"].Peak, "MB", "a store of the same pods without managedFields", sizes["peer"].Peak)
}

// remember is the child of BenchmarkMemory.
func remember(who string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var keep any
	if who == "ours" {
		keep = fleetInformer(fail, fleetOthers)
	} else {
		indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		for n := range fleetOthers {
			bytes, _ := other(n).Marshal()
			p := &corev1.Pod{}
			if err := p.Unmarshal(bytes); err != nil {
				fail(err)
			}
			p.ManagedFields = nil
			_ = indexer.Add(p)
		}
		keep = indexer
	}
	// A minute's quiet in short: the collector would run and give back what it found.
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r := resident{Heap: float64(m.HeapAlloc) / 1e6}
	r.RSS, r.Peak = memory(fail)
	runtime.KeepAlive(keep)
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

// memory is VmRSS and VmHWM in MB.
func memory(fail func(error)) (rss, peak float64) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		fail(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			rss = kb * 1024 / 1e6
		case "VmHWM:":
			peak = kb * 1024 / 1e6
		}
	}
	return rss, peak
}
