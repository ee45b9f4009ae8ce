package extender

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/ensemble/membership"
)

// A pod that the scheduler heard of first is waited for.
func TestFilterAwaitsPod(t *testing.T) {
	w := threeZones()
	before := w.clone()
	delete(before.pods, "zk-2")
	k := &known{}
	p := startPlacer(t, k, before, nil)
	p.config.Seen = time.Minute
	answers := make(chan Answer, 1)
	go func() { answers <- p.Filter(t.Context(), askFor(w, "zk-2").Pod, []string{"a1"}) }()
	k.show(w)
	if a := <-answers; a.Outcome != Placed {
		t.Errorf("got %v %s, want placed", a.Outcome, a.Message)
	}
}

// So is a node: it may be the only safe one.
func TestFilterAwaitsNode(t *testing.T) {
	w := threeZones()
	w.pods["zk-0"].node = "a1"
	before := w.clone()
	delete(before.nodes, "c1")
	k := &known{}
	p := startPlacer(t, k, before, nil)
	if a := p.Filter(t.Context(), askFor(w, "zk-2").Pod, []string{"a1", "c1"}); a.Outcome != Unknown || !strings.Contains(a.Message, "not seen node c1 yet") {
		t.Errorf("never seen: got %v %q, want unknown", a.Outcome, a.Message)
	}
	if a := p.Filter(t.Context(), askFor(w, "zk-2").Pod, []string{"b1", "c1"}); a.Outcome != Placed {
		t.Errorf("not needed: got %v %q, want placed", a.Outcome, a.Message)
	}
	p.config.Seen = time.Minute
	answers := make(chan Answer, 1)
	go func() { answers <- p.Filter(t.Context(), askFor(w, "zk-2").Pod, []string{"a1", "c1"}) }()
	k.show(w)
	if a := <-answers; a.Outcome != Placed {
		t.Errorf("seen in time: got %v %s, want placed", a.Outcome, a.Message)
	}
}

// overtaking is a Membership that shows another world right after it was asked.
type overtaking struct {
	known
	next atomic.Pointer[world]
}

func (o *overtaking) Snapshot() *membership.Snapshot {
	s := o.known.Snapshot()
	if w := o.next.Swap(nil); w != nil {
		o.show(w)
	}
	return s
}

// What is shown while the placer follows what came before is followed, too: a pod
// that was bound in between holds nothing more.
func TestFollowsWhatComesMeanwhile(t *testing.T) {
	w := threeZones()
	o := &overtaking{}
	p := startPlacerOn(t, o, &o.known, w, nil)
	if a := p.Filter(t.Context(), askFor(w, "zk-0").Pod, []string{"a1"}); a.Outcome != Placed {
		t.Fatalf("got %v %s, want placed", a.Outcome, a.Message)
	}
	bound := w.clone()
	bound.pods["zk-0"].node = "a1"
	o.next.Store(bound)
	p.heard.hear(nil, nil)
	await(t, func() bool { held, _, _ := p.Holds(); return held == 0 })
}

// A pod with the request that no Ensemble selects may be ahead of its Ensemble; an
// old one is told that it waits for nothing, and poked when there is something.
func TestOrphans(t *testing.T) {
	w := threeZones()
	k, poked := &known{}, &pokes{}
	p := startPlacer(t, k, w, poked)
	pod := askFor(w, "zk-0").Pod
	pod.UID, pod.Name, pod.Labels = "early", "zk-3", nil
	if a := p.Filter(t.Context(), pod, []string{"a1"}); a.Outcome != Unknown {
		t.Errorf("a young one: got %v, want unknown", a.Outcome)
	}
	pod.CreationTimestamp = metav1.Time{Time: settled.Add(-time.Hour)}
	a := p.Filter(t.Context(), pod, []string{"a1"})
	if a.Outcome != Impossible || a.Refused[0].Cause.String() != "orphan" || !strings.Contains(a.Reasons()["a1"], "no Ensemble in its namespace selects it") {
		t.Errorf("an old one: got %v %v", a.Outcome, a.Refused)
	}
	p.sweep()
	w.pods["zk-3"] = &worldPod{uid: "early"}
	for range 2 {
		k.show(w)
		await(t, func() bool { return poked.got() == "[early]" })
	}
}

// pokes collects who was poked.
type pokes struct {
	mu   sync.Mutex // guards below
	uids []types.UID
}

func (p *pokes) Poke(_ types.NamespacedName, uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uids = append(p.uids, uid)
}

func (p *pokes) got() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.uids)
}

// Who was refused for good is poked once it would not be: the scheduler may have seen
// the reason before we did, or may never see it.
func TestPoke(t *testing.T) {
	for why, change := range map[string]func(w *world){
		"more voters":        func(w *world) { w.voters = 5 },
		"another topology":   func(w *world) { w.levels = append(w.levels[:0:0], level("zone?")) },
		"a sibling is gone":  func(w *world) { delete(w.pods, "zk-0") },
		"a sibling observes": func(w *world) { w.observer["zk-0"] = true },
	} {
		t.Run(why, func(t *testing.T) {
			w := threeZones()
			w.pods["zk-0"].node = "a1"
			k, poked := &known{}, &pokes{}
			p := startPlacer(t, k, w, poked)
			if a := p.Filter(t.Context(), askFor(w, "zk-1").Pod, []string{"a1"}); a.Outcome != Impossible {
				t.Fatalf("got %v, want impossible", a.Outcome)
			}
			k.show(w)
			change(w)
			k.show(w)
			await(t, func() bool { return poked.got() == "[zk-1]" })
			k.show(w)
			p.follow(t.Context())
			if got := poked.got(); got != "[zk-1]" {
				t.Errorf("got %v, want one poke", got)
			}
		})
	}
}

// Nodes alone may be the reason: no ensemble changes when one gets its label.
func TestPokeForNodes(t *testing.T) {
	w := threeZones()
	w.addNode("x1", map[string]string{"zone": ""})
	w.pods["zk-0"].node = "a1"
	k, poked := &known{}, &pokes{}
	p := startPlacer(t, k, w, poked)
	if a := p.Filter(t.Context(), askFor(w, "zk-1").Pod, []string{"a1", "x1"}); a.Outcome != Impossible {
		t.Fatalf("got %v, want impossible", a.Outcome)
	}
	label := func(zone string) {
		w.addNode("x1", map[string]string{"zone": zone})
		k.snapshot.Store(w.snapshot())
		k.listener(k.Snapshot(), nil)
	}
	label("a")
	p.examineNodes()
	if got := poked.got(); got != "[]" {
		t.Errorf("where it is as unsafe as before: got %v, want no poke", got)
	}
	label("b")
	await(t, func() bool { return poked.got() == "[zk-1]" })
}

// Who waits when we start may have been refused by a process before us.
func TestPokeAtStart(t *testing.T) {
	w := threeZones()
	w.pods["zk-0"].node = "a1"
	w.pods["zk-1"].condition = "no node is safe"
	k, poked := &known{}, &pokes{}
	startPlacer(t, k, nil, poked)
	k.show(w)
	await(t, func() bool { return poked.got() == "[zk-1]" })
}

func lease(holder string, transitions int32) *coordinationv1.Lease {
	return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &holder, LeaseTransitions: &transitions, LeaseDurationSeconds: ptr.To[int32](15)}}
}

// When the scheduler's Lease changes hands, pods may land where another instance
// sent them; a renewal changes nothing.
func TestLeaseChangesHands(t *testing.T) {
	w := threeZones()
	p := startPlacer(t, &known{}, w, nil)
	for _, c := range []struct {
		why     string
		lease   *coordinationv1.Lease
		doubted int
	}{
		{"the first sight", lease("x", 1), 0},
		{"a renewal", lease("x", 1), 0},
		{"released", lease("", 1), 3},
	} {
		p.seeLease(c.lease)
		if _, _, doubted := p.Holds(); doubted != c.doubted {
			t.Errorf("%s: got %d doubted pods, want %d", c.why, doubted, c.doubted)
		}
	}
}

// A Lease that was renewed and is no more may have been taken unseen: nothing is
// answered until it is seen again. One that was never seen renewed tells nothing.
func TestLeaseGoesStale(t *testing.T) {
	v := leaseView{name: "kube-system/kube-scheduler"}
	v.see(settled, lease("x", 1))
	if why := v.stale(settled.Add(time.Hour)); why != "" {
		t.Errorf("left over: got %q, want no objection", why)
	}
	v.see(settled, lease("x", 1))
	if why := v.stale(settled.Add(14 * time.Second)); why != "" {
		t.Errorf("in time: got %q, want no objection", why)
	}
	if why := v.stale(settled.Add(16 * time.Second)); !strings.Contains(why, "not seen renewed for 16s") || !strings.Contains(why, "delete it, or turn leader election on") {
		t.Errorf("late: got %q", why)
	}
	if v.see(settled.Add(20*time.Second), lease("y", 2)) != true || v.stale(settled.Add(20*time.Second)) != "" {
		t.Error("taken over: want a change, and no objection any more")
	}
}
