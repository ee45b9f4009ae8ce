package extender

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/bench"
)

// large is 1,000 ensembles of 7 voters over three zones, 60 racks and 5,000 hosts.
// Of each ensemble six voters are bound, two in each zone, and the last one asks.
func large() (*membership.Snapshot, []string) {
	var objects []runtime.Object
	names := make([]string, 5000)
	for i := range names {
		names[i] = fmt.Sprintf("ip-10-%d-%d-%d.compute.internal", i%3, i/250, i%250)
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: names[i], Labels: map[string]string{
			corev1.LabelHostname: names[i], corev1.LabelTopologyZone: fmt.Sprint("zone-", i%3), keys["rack"]: fmt.Sprint("r", i%60/3)}}})
	}
	for n := range 1000 {
		name := fmt.Sprintf("zk-%d", n)
		e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		e.Spec.Selector = v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(name)}}
		e.Spec.Voters = ptr.To[int32](7)
		e.Spec.Topology = []v1alpha1.TopologyLevel{level("host"), level("rack<zone"), level("zone")}
		objects = append(objects, e)
		for i := range 7 {
			p := (&world{}).pod(fmt.Sprintf("%s-%d", name, i), &worldPod{uid: types.UID(fmt.Sprintf("%s-%d", name, i))})
			p.Labels, p.OwnerReferences, p.Spec.Volumes = map[string]string{"app": name}, nil, nil
			if i < 6 {
				p.Spec.NodeName = names[(n*7+i)%len(names)]
			}
			objects = append(objects, p)
		}
	}
	return membership.FromObjects(objects...), names
}

// BenchmarkDecision is the decision alone: 500 names, three levels, seven voters.
func BenchmarkDecision(b *testing.B) {
	s, names := large()
	e, _ := s.Get(types.NamespacedName{Namespace: namespace, Name: "zk-500"})
	l := NewLedger(Timing{})
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		a := l.Filter(settled, s, e, "zk-500-6", names[:500], false)
		times = append(times, time.Since(start))
		if a.Outcome != Placed {
			b.Fatal(tell(a))
		}
	}
	bench.Record(b, "filter: decision alone, 500 names, p50", quantile(times, 50)*1000, "us", "bound", 200)
}

// BenchmarkDecisionOfHosts is the same where hosts are the coarsest level: a domain
// for each name. Siblings that are not bound yet hold a share of them, too.
func BenchmarkDecisionOfHosts(b *testing.B) {
	for _, siblings := range []int{0, 1, 3} {
		b.Run(fmt.Sprint(siblings), func(b *testing.B) {
			w := newWorld()
			w.voters, w.levels = 7, append(w.levels, level("host"))
			for i := range 5000 {
				w.addNode(fmt.Sprintf("ip-10-%d-%d-%d.compute.internal", i%3, i/250, i%250), nil)
			}
			names := w.nodeNames()
			for i := range w.voters {
				p := &worldPod{uid: types.UID(fmt.Sprintf("zk-%d", i))}
				if i < w.voters-1-siblings {
					p.node = names[i]
				}
				w.pods[string(p.uid)] = p
			}
			s := w.snapshot()
			e, l := w.ensemble(s), NewLedger(Timing{})
			var times []time.Duration
			decide := func(uid types.UID) {
				start := time.Now()
				a := l.Filter(settled, s, e, uid, names[:500], false)
				times = append(times, time.Since(start))
				if a.Outcome != Placed {
					b.Fatal(tell(a))
				}
			}
			for i := range siblings {
				decide(types.UID(fmt.Sprintf("zk-%d", w.voters-2-i)))
			}
			times = nil
			for b.Loop() {
				decide(types.UID(fmt.Sprintf("zk-%d", w.voters-1)))
			}
			bench.Record(b, fmt.Sprintf("filter: decision alone, 500 names, a domain each, %d siblings unbound, p50", siblings),
				quantile(times, 50)*1000, "us", "bound", 200)
		})
	}
}

// BenchmarkRoundTrip asks the whole server, and by turns one that only decodes the
// question and encodes the same answer.
func BenchmarkRoundTrip(b *testing.B) {
	s, names := large()
	for _, n := range []int{500, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := &known{}
			p := NewPlacer(PlacerConfig{Membership: k, Now: func() time.Time { return settled }})
			k.snapshot.Store(s)
			p.ledger = NewLedger(Timing{})
			ours := httptest.NewServer(newHandler(p, newMetrics(nil, p), 0))
			defer ours.Close()
			pod := (&world{}).pod("zk-500-6", &worldPod{uid: "zk-500-6"})
			pod.Labels = map[string]string{"app": "zk-500"}
			given := names[:n]
			question, err := json.Marshal(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &given})
			if err != nil {
				b.Fatal(err)
			}
			answer := ask(b, ours.URL, question)
			floor := httptest.NewServer(echo(b, answer))
			defer floor.Close()
			var our, floors []time.Duration
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 { // by turns, so that neither always comes after the other
					our = append(our, timed(b, ours.URL, question))
					floors = append(floors, timed(b, floor.URL, question))
					continue
				}
				floors = append(floors, timed(b, floor.URL, question))
				our = append(our, timed(b, ours.URL, question))
			}
			for _, q := range []int{50, 99} {
				bench.Record(b, fmt.Sprintf("filter: %d names, round trip p%d", n, q), quantile(our, q), "ms", "decode and encode alone", quantile(floors, q))
			}
		})
	}
}

func timed(b *testing.B, url string, question []byte) time.Duration {
	b.Helper()
	start := time.Now()
	ask(b, url, question)
	return time.Since(start)
}

func quantile(ds []time.Duration, percent int) float64 {
	slices.Sort(ds)
	return float64(ds[(len(ds)-1)*percent/100].Microseconds()) / 1000
}

func ask(b *testing.B, url string, question []byte) []byte {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/filter", bytes.NewReader(question))
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s %s %v", resp.Status, answer, err)
	}
	return answer
}

// echo decodes each question and encodes one answer.
func echo(b *testing.B, answer []byte) http.Handler {
	b.Helper()
	result := &extenderv1.ExtenderFilterResult{}
	if err := json.Unmarshal(answer, result); err != nil {
		b.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		args := &extenderv1.ExtenderArgs{}
		if err := json.NewDecoder(r.Body).Decode(args); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body, err := json.Marshal(result)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
}
