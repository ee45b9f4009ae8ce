package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/test/lab"
)

const soon = 90 * time.Second

func mustBind(t *testing.T, o *oracle, n int) {
	t.Helper()
	if err := o.awaitBound(t.Context(), n, soon); err != nil {
		t.Fatal(err)
	}
	for name, moments := range o.verdict() {
		t.Errorf("%s: unsafe: %v", name, moments)
	}
}

// patchEnsemble zk of the namespace.
func patchEnsemble(t *testing.T, namespace, patch string, subresource ...string) {
	t.Helper()
	err := ensembles.Patch(types.MergePatchType).Namespace(namespace).Resource("ensembles").Name("zk").
		SubResource(subresource...).Body([]byte(patch)).Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
}

// TestGrow scales an ensemble 1 -> 3 -> 5 -> 7 over three zones, while bindings are
// slow, fail and land late. From 3 on the live configuration is known: members join it
// one by one, as observers at first. Each step ends, and no step is unsafe.
func TestGrow(t *testing.T) {
	p := startExtender(t, "127.0.0.1:0")
	f := startFaults(t, plane, 5)
	startScheduler(t, "grow", p.address, f)
	ns := namespace(t, "grow")
	createEnsemble(t, ns, "zk", 1)
	awaitPolicy(t, ns, "zk")
	voters := 1
	o := startOracle(t, plane, ns, zoneOf, func(string) int { return voters })
	createPods(t, memberPod(ns, "zk", 0))
	mustBind(t, o, 1)
	for size := 3; size <= 7; size += 2 {
		setVoters(o, &voters, size)
		patchEnsemble(t, ns, fmt.Sprintf(`{"spec":{"voters":%d}}`, size))
		for i := size - 2; i < size; i++ {
			createPods(t, memberPod(ns, "zk", i))
			mustBind(t, o, i+1)
			if size > 3 {
				patchEnsemble(t, ns, o.join(i), "status")
			}
		}
		patchEnsemble(t, ns, o.join(size), "status")
	}
}

func setVoters(o *oracle, voters *int, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*voters = n
}

// join says that the first n members vote, and that the next one is an observer, as the
// status controller says it.
func (o *oracle) join(n int) (status string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = map[string]bool{}
	var members []string
	for i := range n {
		name := fmt.Sprintf("zk-%d", i)
		o.live[name] = true
		members = append(members, fmt.Sprintf(`{"name":%q,"role":"Follower","votes":true,"health":"Synced"}`, name))
	}
	members = append(members, fmt.Sprintf(`{"name":"zk-%d","role":"Observer","health":"Synced"}`, n))
	return fmt.Sprintf(`{"status":{"voters":%d,"members":[%s]}}`, n, strings.Join(members, ","))
}

// TestFullZone fills a zone: the voter that only fits there waits, is told why in
// words, and goes there once there is room, however bindings fail.
func TestFullZone(t *testing.T) {
	p := startExtender(t, "127.0.0.1:0")
	startScheduler(t, "full", p.address, startFaults(t, plane, 6))
	ns := namespace(t, "full")
	o := startOracle(t, plane, ns, zoneOf, func(string) int { return 3 })
	createEnsemble(t, ns, "zk", 3)
	awaitPolicy(t, ns, "zk")
	cordon(t, "c", true)
	t.Cleanup(func() { cordon(t, "c", false) })
	createPods(t, memberPod(ns, "zk", 0), memberPod(ns, "zk", 1), memberPod(ns, "zk", 2))
	mustBind(t, o, 2)
	awaitReason(t, ns, "already holds 1 of 3 voters; a second would lose quorum with the zone")
	cordon(t, "c", false)
	mustBind(t, o, 3)
}

// cordon makes the nodes of a zone take no new pods.
func cordon(t *testing.T, zone string, full bool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for node, z := range zoneOf {
		if z != zone {
			continue
		}
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, full)
		if _, err := plane.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitReason waits until a pod that waits is told so.
func awaitReason(t *testing.T, namespace, text string) {
	t.Helper()
	if err := lab.Await(t.Context(), soon, "the reason", func(ctx context.Context) error {
		pods, err := plane.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		last := "no pod waits"
		for _, pod := range pods.Items {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
					last = c.Message
				}
			}
		}
		if !strings.Contains(last, text) {
			return errors.New(last)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestEnsembleChanges loosens an Ensemble while a voter waits: no event of the core
// API tells the scheduler, so that the pod has to be poked.
func TestEnsembleChanges(t *testing.T) {
	p := startExtender(t, "127.0.0.1:0")
	startScheduler(t, "changes", p.address, nil)
	ns := namespace(t, "changes")
	o := startOracle(t, plane, ns, zoneOf, func(string) int { return 0 })
	createEnsemble(t, ns, "zk", 4)
	awaitPolicy(t, ns, "zk")
	createPods(t, memberPod(ns, "zk", 0), memberPod(ns, "zk", 1), memberPod(ns, "zk", 2), memberPod(ns, "zk", 3))
	mustBind(t, o, 3)
	awaitReason(t, ns, "4 voters need at least 4 zones, there are 3")
	patchEnsemble(t, ns, `{"spec":{"voters":5}}`)
	mustBind(t, o, 4)
}

// TestOutage schedules ordinary pods while the extender is down, and while it hangs:
// they never wait for it. Members do, and go where they belong once it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]bool{"down": false, "hanging": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, "outage-"+name)
			o := startOracle(t, plane, ns, zoneOf, func(ensemble string) int { return map[string]int{"zk": 3}[ensemble] })
			createEnsemble(t, ns, "zk", 3)
			address := freeAddress(t)
			hangUp := func() {}
			if listen {
				hangUp = hang(t, address)
			}
			runScheduler(t, "scheduler-"+ns, ns, address, nil, nil)
			createPods(t, apart(memberPod(ns, "zk", 0)), apart(memberPod(ns, "zk", 1)), apart(memberPod(ns, "zk", 2)))
			ordinary := make([]*corev1.Pod, 20)
			for i := range ordinary {
				ordinary[i] = memberPod(ns, "web", i)
				ordinary[i].Spec.SchedulerName = ns
			}
			createPods(t, ordinary...)
			mustBind(t, o, len(ordinary))
			o.mu.Lock()
			members := len(o.pods["zk"])
			o.mu.Unlock()
			if members != 0 {
				t.Errorf("%d members were bound without the extender", members)
			}
			hangUp()
			startExtender(t, address)
			mustBind(t, o, len(ordinary)+3)
		})
	}
}

// hang accepts connections and never answers.
func hang(t *testing.T, address string) (hangUp func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan []net.Conn, 1)
	go func() {
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				accepted <- open
				return
			}
			open = append(open, c)
		}
	}()
	return func() {
		_ = l.Close()
		for _, c := range <-accepted {
			_ = c.Close()
		}
	}
}
