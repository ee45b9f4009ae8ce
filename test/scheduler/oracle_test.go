package scheduler

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/quorate/quorate/test/lab"
)

// oracle follows one namespace bind by bind, in the order that the API server made
// them, and keeps what was ever wrong.
type oracle struct {
	zoneOf map[string]string         // by node
	voters func(ensemble string) int // that are declared

	mu     sync.Mutex                   // guards below
	pods   map[string]map[string]string // node by pod, by ensemble
	unsafe map[string][]string          // what was wrong, by ensemble
	live   map[string]bool              // the members in the live configuration, where it is known
	bound  int
	ended  error
}

// ensembleLabel tells which ensemble a pod is a member of.
const ensembleLabel = "ensemble"

func startOracle(t *testing.T, plane *lab.ControlPlane, namespace string, zoneOf map[string]string, voters func(string) int) *oracle {
	t.Helper()
	o := &oracle{zoneOf: zoneOf, voters: voters, pods: map[string]map[string]string{}, unsafe: map[string][]string{}}
	list, err := plane.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// One that resumes where it was cut: the API server ends watches that can't keep up.
	w, err := watchtools.NewRetryWatcherWithContext(t.Context(), list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return plane.Client.CoreV1().Pods(namespace).Watch(ctx, o)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			o.see(e)
		}
	}()
	t.Cleanup(func() {
		w.Stop()
		<-done
	})
	return o
}

func (o *oracle) see(e watch.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Type == watch.Bookmark {
		return
	}
	pod, ok := e.Object.(*corev1.Pod)
	if !ok {
		o.ended = fmt.Errorf("watch pods: %v", e.Object)
		return
	}
	name := pod.Labels[ensembleLabel]
	if name == "" {
		return
	}
	if o.pods[name] == nil {
		o.pods[name] = map[string]string{}
	}
	members := o.pods[name]
	if e.Type == watch.Deleted {
		delete(members, pod.Name)
		return
	}
	if pod.Spec.NodeName == "" || members[pod.Name] == pod.Spec.NodeName {
		return
	}
	members[pod.Name] = pod.Spec.NodeName
	o.bound++
	o.judge(name, pod, o.voters(name), func(string) bool { return true })
	if o.live[pod.Name] {
		o.judge(name, pod, len(o.live), func(member string) bool { return o.live[member] })
	}
}

// judge what a pod's zone holds of so many voters, of the members that count.
func (o *oracle) judge(ensemble string, pod *corev1.Pod, voters int, counts func(member string) bool) {
	zone, there := o.zoneOf[pod.Spec.NodeName], 0
	for member, node := range o.pods[ensemble] {
		if o.zoneOf[node] == zone && counts(member) {
			there++
		}
	}
	if voters > 2 && there > (voters-1)/2 {
		o.unsafe[ensemble] = append(o.unsafe[ensemble], fmt.Sprintf("%s on %s: zone %s holds %d of %d", pod.Name, pod.Spec.NodeName, zone, there, voters))
	}
}

// verdict is what was ever wrong, one line for each ensemble.
func (o *oracle) verdict() map[string][]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unsafe
}

// awaitBound waits until n bindings were seen.
func (o *oracle) awaitBound(ctx context.Context, n int, limit time.Duration) error {
	return lab.Await(ctx, limit, fmt.Sprintf("%d pods bound", n), func(context.Context) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.ended != nil {
			return lab.Stop(o.ended)
		}
		if o.bound < n {
			return fmt.Errorf("%d are", o.bound)
		}
		return nil
	})
}
