package membership

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Keeper keeps status.topology resolved. Any number of them may run, in the
// extenders and in the status controller: they come to the same answer, and the
// first to write it wins.
type Keeper struct {
	informer  *Informer
	ensembles rest.Interface
	queue     workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu    sync.Mutex // guards below
	zones map[Domain]int
}

// NewKeeper makes a keeper that listens to the informer, which must not run yet.
func NewKeeper(i *Informer, ensembles rest.Interface) *Keeper {
	k := &Keeper{informer: i, ensembles: ensembles, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](100*time.Millisecond, 30*time.Second))}
	i.Listen(k.heard)
	return k
}

// heard notes what may have to be written: whatever changed, and everything when
// zones came, went, or gained or lost nodes.
func (k *Keeper) heard(s *Snapshot, changed []types.NamespacedName) {
	for _, key := range changed {
		k.queue.Add(key)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	zones := s.nodes.domains(Level{Key: corev1.LabelTopologyZone, Hard: true})
	if maps.Equal(zones, k.zones) {
		return
	}
	k.zones = zones
	for e := range s.Ensembles() {
		k.queue.Add(e.Key)
	}
}

// Run writes until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		k.queue.ShutDown()
	})
	for {
		key, shutdown := k.queue.Get()
		if shutdown {
			wg.Wait()
			return nil
		}
		k.keep(ctx, key)
		k.queue.Done(key)
	}
}

// writeTimeout bounds one write.
const writeTimeout = 10 * time.Second

func (k *Keeper) keep(ctx context.Context, key types.NamespacedName) {
	log := klog.FromContext(ctx)
	s := k.informer.Snapshot()
	e, ok := s.Get(key)
	if !ok || !Unresolved(s, e) {
		k.queue.Forget(key)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	topology := Resolve(s, e)
	switch err := WriteTopology(ctx, k.ensembles, e.Object, topology); {
	case err == nil:
		log.Info("Resolved topology", "ensemble", klog.KRef(key.Namespace, key.Name), "topology", topology)
	case apierrors.IsNotFound(err):
		k.queue.Forget(key)
	case apierrors.IsConflict(err):
		k.queue.AddRateLimited(key) // somebody was faster; what they wrote is yet to be seen
	default:
		log.Error(err, "Topology stays unresolved for now", "ensemble", klog.KRef(key.Namespace, key.Name))
		k.queue.AddRateLimited(key)
	}
}
