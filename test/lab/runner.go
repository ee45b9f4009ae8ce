package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Workload is what really runs for a pod.
type Workload interface {
	// Ready returns nil while it serves: the pod's readiness.
	Ready(ctx context.Context) error
	// Stop ends it, politely until ctx ends, then at once. Nothing of it runs
	// afterwards. It may be called again.
	Stop(ctx context.Context) error
	// Done is closed once it has ended, by itself too.
	Done() <-chan struct{}
}

// Start makes a pod's workload run, and returns its address: that of the pod's name,
// wherever it is bound. A nil Workload is one that looks alive at once.
type Start func(ctx context.Context, pod *corev1.Pod) (w Workload, address string, err error)

// LooksAlive starts nothing: every pod is ready as soon as it is bound, at an address
// that nobody listens on.
func LooksAlive(context.Context, *corev1.Pod) (Workload, string, error) {
	return nil, "192.0.2.1", nil
}

// Runner is the kubelet of all nodes of a lab: it runs the pods that are bound to
// them, reports how they are, and stops them when they are deleted, speaking as
// system:node:NAME of the pod's node.
//
// It is not a kubelet: no probes of the pod's own, no volumes, no images, and one
// status for all containers.
type Runner struct {
	plane  *ControlPlane
	start  Start
	pods   corelisters.PodLister
	synced cache.InformerSynced
	shared informers.SharedInformerFactory
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu    sync.Mutex // guards below
	lives map[types.NamespacedName]*life
	lost  map[string]bool
	nodes map[string]*kubernetes.Clientset // clients that speak as a node
}

// life is one pod's workload. Only the worker that has its key touches it.
type life struct {
	uid     types.UID
	node    string
	work    Workload
	address string
	ready   bool
	told    bool // the status was reported at least once
}

// readinessPeriod is how often a running workload is asked.
const readinessPeriod = 500 * time.Millisecond

// StartRunner runs pods until Close. Stop it before the control plane.
func (c *ControlPlane) StartRunner(ctx context.Context, start Start) (*Runner, error) {
	r := &Runner{
		plane: c, start: start,
		shared: informers.NewSharedInformerFactory(c.Client, 0),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](50*time.Millisecond, 2*time.Second)),
		lives: map[types.NamespacedName]*life{}, lost: map[string]bool{}, nodes: map[string]*kubernetes.Clientset{},
	}
	informer := r.shared.Core().V1().Pods()
	r.pods, r.synced = informer.Lister(), informer.Informer().HasSynced
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    r.enqueue,
		UpdateFunc: func(_, pod any) { r.enqueue(pod) },
		DeleteFunc: r.enqueue,
	})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.shared.Start(run.Done())
	if !cache.WaitForCacheSync(ctx.Done(), r.synced) {
		r.Close()
		return nil, fmt.Errorf("watch pods: %w", ctx.Err())
	}
	for range 8 {
		r.wait.Go(func() { r.work(run) })
	}
	return r, nil
}

func (r *Runner) enqueue(object any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
		if name, err := cache.ParseObjectName(key); err == nil {
			r.queue.Add(types.NamespacedName(name))
		}
	}
}

func (r *Runner) work(ctx context.Context) {
	for {
		key, quit := r.queue.Get()
		if quit {
			return
		}
		again, err := r.reconcile(ctx, key)
		switch {
		case err != nil && ctx.Err() == nil:
			klog.FromContext(ctx).V(1).Info("Tries a pod again", "pod", key, "err", err)
			r.queue.AddRateLimited(key)
		case again > 0:
			r.queue.Forget(key)
			r.queue.AddAfter(key, again)
		default:
			r.queue.Forget(key)
		}
		r.queue.Done(key)
	}
}

// Lose makes nodes vanish: what runs on them is killed, and nothing is reported of
// them until Recover. The objects stay as they are; see LoseNodes.
func (r *Runner) Lose(nodes ...string) { r.setLost(true, nodes) }

// Recover makes lost nodes run again what is still bound to them.
func (r *Runner) Recover(nodes ...string) { r.setLost(false, nodes) }

func (r *Runner) setLost(lost bool, nodes []string) {
	r.mu.Lock()
	for _, node := range nodes {
		r.lost[node] = lost
	}
	keys := make([]types.NamespacedName, 0, len(r.lives))
	for key := range r.lives {
		keys = append(keys, key)
	}
	r.mu.Unlock()
	for _, key := range keys {
		r.queue.Add(key)
	}
	for _, node := range nodes {
		r.enqueueNode(node)
	}
}

// Workload is what runs for a pod now, nil if nothing does.
func (r *Runner) Workload(namespace, name string) Workload {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lives[types.NamespacedName{Namespace: namespace, Name: name}]; l != nil {
		return l.work
	}
	return nil
}

// Close kills what runs and ends the runner. Pods keep their last status.
func (r *Runner) Close() error {
	r.cancel()
	r.queue.ShutDown()
	r.wait.Wait()
	r.shared.Shutdown()
	r.mu.Lock()
	defer r.mu.Unlock()
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for key, l := range r.lives {
		if l.work != nil {
			errs = append(errs, l.work.Stop(dead))
		}
		delete(r.lives, key)
	}
	return errors.Join(errs...)
}

// as is a client that speaks as the kubelet of a node.
func (r *Runner) as(node string) (*kubernetes.Clientset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if client := r.nodes[node]; client != nil {
		return client, nil
	}
	client, err := kubernetes.NewForConfig(r.kubelet(node))
	if err != nil {
		return nil, fmt.Errorf("speak as node %s: %w", node, err)
	}
	r.nodes[node] = client
	return client, nil
}

func (r *Runner) kubelet(node string) *rest.Config {
	return r.plane.RESTConfigAs("system:node:"+node, "system:nodes")
}
