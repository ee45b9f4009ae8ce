package extender

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/quorate/quorate/ensemble/membership"
)

// known is a Membership that shows what a test puts into it.
type known struct {
	snapshot atomic.Pointer[membership.Snapshot]
	listener membership.Listener
}

func (k *known) Snapshot() *membership.Snapshot { return k.snapshot.Load() }
func (k *known) Listen(l membership.Listener)   { k.listener = l }
func (k *known) Waiting() []string {
	if k.Snapshot() == nil {
		return []string{"pods"}
	}
	return nil
}

// show makes the world what is known.
func (k *known) show(w *world) {
	k.snapshot.Store(w.snapshot())
	k.listener(k.Snapshot(), []types.NamespacedName{{Namespace: namespace, Name: "zk"}})
}

// threeZones is a world with a host in each of three zones and three members, none
// of which is bound.
func threeZones() *world {
	w := newWorld()
	for _, zone := range []string{"a", "b", "c"} {
		w.addNode(zone+"1", map[string]string{"zone": zone})
	}
	w.voters, w.levels = 3, append(w.levels, level("zone"))
	for i := range 3 {
		name := fmt.Sprintf("zk-%d", i)
		w.pods[name] = &worldPod{uid: types.UID(name)}
	}
	return w
}

// settled is a clock that stands still.
var settled = time.Unix(5000, 0)

// startPlacer runs a placer whose doubts about the time before it have passed.
func startPlacer(t *testing.T, k *known, w *world, poker Poker) *Placer {
	t.Helper()
	return startPlacerOn(t, k, k, w, poker)
}

// startPlacerOn asks m, which tells of what k is shown.
func startPlacerOn(t *testing.T, m Membership, k *known, w *world, poker Poker) *Placer {
	t.Helper()
	p := NewPlacer(PlacerConfig{Membership: m, Poker: poker, Seen: 20 * time.Millisecond, Now: func() time.Time { return settled }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if w != nil {
		empty := w.clone()
		clear(empty.pods)
		k.show(empty)
		await(t, func() bool { return p.Ready() == nil })
		k.show(w)
	}
	return p
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !condition(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come true within a minute")
		}
	}
}

func serve(t *testing.T, w *world) (*httptest.Server, *Handler) {
	t.Helper()
	k := &known{}
	p := startPlacer(t, k, w, nil)
	h := newHandler(p, newMetrics(nil, p), 1<<20)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server, h
}

func askFor(w *world, pod string, names ...string) *extenderv1.ExtenderArgs {
	p := w.pod(pod, w.pods[pod])
	p.CreationTimestamp = metav1.Time{Time: settled}
	return &extenderv1.ExtenderArgs{Pod: p, NodeNames: &names}
}

func post(t *testing.T, url string, body []byte) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilterOverHTTP(t *testing.T) {
	w := threeZones()
	w.addNode("x", map[string]string{"zone": ""})
	w.addNode("d1", map[string]string{"zone": "d"})
	w.pods["zk-3"] = &worldPod{uid: "zk-3", node: "d1"}
	server, h := serve(t, w)
	full := askFor(w, "zk-1")
	full.NodeNames, full.Nodes = nil, &corev1.NodeList{}
	for _, n := range []string{"a1", "b1"} {
		full.Nodes.Items = append(full.Nodes.Items, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
	elsewhere := func(zone string) string { return "safe too, but this pod is being placed in zone " + zone }
	for _, c := range []struct {
		why  string
		args *extenderv1.ExtenderArgs
		want extenderv1.ExtenderFilterResult
	}{
		{"names are answered with names", askFor(w, "zk-0", "a1", "b1", "c1"), extenderv1.ExtenderFilterResult{
			NodeNames:                  &[]string{"a1"},
			FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{"b1": elsewhere("a"), "c1": elsewhere("a")}}},
		{"nodes with nodes", full, extenderv1.ExtenderFilterResult{
			Nodes:                      &corev1.NodeList{Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "b1"}}}},
			FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{"a1": "zone a holds 0 of 3 voters, and may be about to get zk-0"}}},
		{"what passes soon is an error", askFor(w, "zk-2", "a1"), extenderv1.ExtenderFilterResult{
			Error: "quorate: every safe place is promised to a pod that is still being bound, so this one waits: zone a holds 0 of 3 voters, and may be about to get zk-0"}},
		{"no node is still a list", askFor(w, "zk-2", "x"), extenderv1.ExtenderFilterResult{
			NodeNames:                  &[]string{},
			FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{"x": "the node lacks the label topology.kubernetes.io/zone, which the ensemble's topology names"}}},
		{"what does not pass is refused for good", askFor(w, "zk-2", "d1"), extenderv1.ExtenderFilterResult{
			NodeNames:                  &[]string{},
			FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{"d1": "zone d already holds 1 of 3 voters; a second would lose quorum with the zone"}}},
		{"a node that is not seen yet passes, too", askFor(w, "zk-2", "x", "y"), extenderv1.ExtenderFilterResult{
			Error: "quorate: quorate has not seen node y yet, and no other node that the scheduler offered is safe; this passes"}},
	} {
		status, body := post(t, server.URL+"/filter", encode(t, c.args))
		var got extenderv1.ExtenderFilterResult
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
			t.Fatalf("%s: got %d %s, %v", c.why, status, body, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
	want := `
# HELP quorate_extender_answers_total Answers to the scheduler, by verb and outcome.
# TYPE quorate_extender_answers_total counter
quorate_extender_answers_total{outcome="held",verb="filter"} 1
quorate_extender_answers_total{outcome="impossible",verb="filter"} 2
quorate_extender_answers_total{outcome="placed",verb="filter"} 2
quorate_extender_answers_total{outcome="unknown",verb="filter"} 1
`
	if err := testutil.CollectAndCompare(h.metrics.answers, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	refused := `
# HELP quorate_extender_refused_nodes_total Nodes that a pod was not sent to, by reason; of a temporary answer, all nodes by its outcome.
# TYPE quorate_extender_refused_nodes_total counter
quorate_extender_refused_nodes_total{reason="elsewhere"} 2
quorate_extender_refused_nodes_total{reason="fatal"} 1
quorate_extender_refused_nodes_total{reason="held"} 2
quorate_extender_refused_nodes_total{reason="orphan"} 0
quorate_extender_refused_nodes_total{reason="unknown"} 2
quorate_extender_refused_nodes_total{reason="unlabelled"} 1
`
	if err := testutil.CollectAndCompare(h.metrics.refused, strings.NewReader(refused)); err != nil {
		t.Error(err)
	}
	holds := `
# HELP quorate_extender_pods Unbound pods that hold a place, may still land in a former one, or may be anywhere.
# TYPE quorate_extender_pods gauge
quorate_extender_pods{state="doubted"} 0
quorate_extender_pods{state="holding"} 2
quorate_extender_pods{state="lingering"} 0
`
	if err := testutil.CollectAndCompare(holdsOf(h.placer), strings.NewReader(holds)); err != nil {
		t.Error(err)
	}
}

func TestPrioritizeOverHTTP(t *testing.T) {
	w := threeZones()
	w.voters, w.pods["zk-0"].node = 5, "a1"
	server, _ := serve(t, w)
	status, body := post(t, server.URL+"/prioritize", encode(t, askFor(w, "zk-1", "a1", "b1")))
	if want := `[{"Host":"a1","Score":8},{"Host":"b1","Score":10}]`; status != http.StatusOK || body != want {
		t.Errorf("got %d %s, want %s", status, body, want)
	}
}

func TestBadQuestions(t *testing.T) {
	w := threeZones()
	server, _ := serve(t, w)
	noNodes := askFor(w, "zk-0")
	noNodes.NodeNames = nil
	for why, c := range map[string]struct {
		path   string
		body   []byte
		status int
		text   string
	}{
		"not JSON":      {"/filter", []byte("<html>"), 400, "read ExtenderArgs: invalid character '<'"},
		"empty":         {"/filter", nil, 400, "read ExtenderArgs: EOF"},
		"cut":           {"/filter", encode(t, askFor(w, "zk-0", "a1"))[:100], 400, "unexpected EOF"},
		"two documents": {"/filter", []byte(`{} {}`), 400, "more than one document"},
		"another type":  {"/prioritize", []byte(`[1]`), 400, "cannot unmarshal"},
		"no pod":        {"/filter", []byte(`{"NodeNames":["a1"]}`), 400, "ExtenderArgs name no Pod"},
		"no nodes":      {"/filter", encode(t, noNodes), 400, "neither NodeNames nor Nodes"},
		"ten megabytes": {"/filter", bytes.Repeat([]byte(" "), 10<<20), 413, "nodeCacheCapable: true"},
		"another verb":  {"/bind", []byte(`{}`), 404, "not found"},
	} {
		status, body := post(t, server.URL+c.path, c.body)
		if status != c.status || !strings.Contains(body, c.text) {
			t.Errorf("%s: got %d %q, want %d %q", why, status, body, c.status, c.text)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/filter", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET /filter: got %s, want 405", resp.Status)
	}
}

// Nothing is answered before everything was seen once, and it says so.
func TestNotReady(t *testing.T) {
	w := threeZones()
	server, _ := serve(t, nil)
	resp, err := http.Get(server.URL + "/readyz") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "[pods]") {
		t.Errorf("readyz: got %s %s", resp.Status, text)
	}
	_, body := post(t, server.URL+"/filter", encode(t, askFor(w, "zk-0", "a1")))
	if !strings.Contains(body, `"Error":"quorate: quorate has not yet seen all pods and nodes`) {
		t.Errorf("filter: got %s", body)
	}
	live, err := http.Get(server.URL + "/healthz") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	live.Body.Close()
	if live.StatusCode != http.StatusOK {
		t.Errorf("healthz: got %s, want 200", live.Status)
	}
}
