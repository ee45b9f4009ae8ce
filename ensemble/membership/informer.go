package membership

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Listener is told of each new snapshot and of the ensembles that are other than
// in the one before, gone ones included, in order. It must return at once.
type Listener func(s *Snapshot, changed []types.NamespacedName)

// Informer keeps a Snapshot true to what the API server's watches say.
//
// It drives client-go's reflectors into a store of its own: a shared informer
// would keep every pod of the cluster as it came, twice named and once indexed,
// where a record of some hundred bytes is enough to make a member of it later.
type Informer struct {
	snapshot  atomic.Pointer[Snapshot]
	listeners []Listener
	sources   Sources

	mu      sync.Mutex // guards below
	model   *model
	waiting map[string]struct{}
}

// NewInformer makes an informer over the sources. A nil live reads the live
// configuration from the Ensembles' status.
func NewInformer(sources Sources, live LiveConfig) *Informer {
	if live == nil {
		live = StatusConfig{}
	}
	i := &Informer{sources: sources, model: newModel(live), waiting: map[string]struct{}{}}
	for _, r := range i.resources() {
		i.waiting[r.name] = struct{}{}
	}
	return i
}

// Listen adds a listener. Not to be called once Run is.
func (i *Informer) Listen(l Listener) { i.listeners = append(i.listeners, l) }

// Snapshot is what is known now; nil until everything was listed once.
func (i *Informer) Snapshot() *Snapshot { return i.snapshot.Load() }

// HasSynced reports whether everything was listed once.
func (i *Informer) HasSynced() bool { return i.snapshot.Load() != nil }

// Waiting are the resources that were not listed yet.
func (i *Informer) Waiting() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var names []string
	for name := range i.waiting {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Touch makes the ensembles be built anew: their live configuration is another.
func (i *Informer) Touch(keys ...types.NamespacedName) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range keys {
		if s := i.model.spaces[key.Namespace]; s != nil {
			for _, e := range s.entries {
				if e.key == key {
					i.model.dirty[e] = struct{}{}
				}
			}
		}
	}
	i.publish()
}

// Run watches until ctx ends, and returns when every watch has ended.
func (i *Informer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, r := range i.resources() {
		store := &store{informer: i, resource: r}
		reflector := cache.NewReflectorWithOptions(r.source, r.example, store, cache.ReflectorOptions{Name: "membership/" + r.name})
		wg.Go(func() { reflector.RunWithContext(ctx) })
	}
	wg.Wait()
	return nil
}

// publish hands out a new snapshot if anything changed. i.mu is held, so that
// listeners hear of snapshots in order.
func (i *Informer) publish() {
	if len(i.waiting) > 0 {
		return
	}
	next, changed := i.model.publish()
	if next == i.snapshot.Load() {
		return
	}
	i.snapshot.Store(next)
	for _, l := range i.listeners {
		l(next, changed)
	}
}

// resource is one kind of object: where it comes from and what is kept of it.
type resource struct {
	name    string
	source  cache.ListerWatcher
	example runtime.Object
	// record is the part that is kept.
	record func(runtime.Object) item
	// set follows one object; a nil record is a deleted one.
	set func(m *model, it item)
	// known yields what the model has.
	known func(m *model, yield func(types.NamespacedName))
}

// item is one object by name, and its record.
type item struct {
	key    types.NamespacedName
	record any
}

// as is the record in its own type; nil for a deleted object.
func as[T any](it item) *T {
	r, _ := it.record.(*T)
	return r
}

// kind makes a resource of a kind of object.
func kind[O interface {
	runtime.Object
	GetNamespace() string
	GetName() string
}, R any](name string, source cache.ListerWatcher, example O, record func(O) *R, set func(*model, types.NamespacedName, *R),
	known func(*model, func(types.NamespacedName))) resource {
	return resource{
		name: name, source: source, example: example, known: known,
		record: func(o runtime.Object) item {
			object := o.(O)
			return item{types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}, record(object)}
		},
		set: func(m *model, it item) { set(m, it.key, as[R](it)) },
	}
}

func (i *Informer) resources() []resource {
	s := &i.sources
	return []resource{
		kind("ensembles", s.Ensembles, &v1alpha1.Ensemble{}, recordEnsemble,
			(*model).setEnsemble, (*model).knownEnsembles),
		kind("pods", s.Pods, &corev1.Pod{}, recordPod,
			func(m *model, k types.NamespacedName, r *podRecord) { m.setPod(k.Namespace, k.Name, r) },
			knownIn(func(s *space) map[string]*podRecord { return s.pods })),
		kind("statefulsets", s.StatefulSets, &appsv1.StatefulSet{}, recordSet,
			func(m *model, k types.NamespacedName, r *setRecord) { m.setSet(k.Namespace, k.Name, r) },
			knownIn(func(s *space) map[string]*setRecord { return s.sets })),
		kind("persistentvolumeclaims", s.Claims, &corev1.PersistentVolumeClaim{}, recordClaim,
			func(m *model, k types.NamespacedName, r *claimRecord) { m.setClaim(k.Namespace, k.Name, r) },
			knownIn(func(s *space) map[string]*claimRecord { return s.claims })),
		kind("persistentvolumes", s.Volumes, &corev1.PersistentVolume{}, recordVolume,
			func(m *model, k types.NamespacedName, r *volumeRecord) { m.setVolume(k.Name, r) },
			knownBy(func(m *model) map[string]*volumeRecord { return m.volumes })),
		kind("nodes", s.Nodes, &corev1.Node{}, recordNode,
			func(m *model, k types.NamespacedName, r *nodeRecord) { m.setNode(k.Name, r) },
			knownBy(func(m *model) map[string]*nodeRecord { return m.nodes })),
	}
}

func knownIn[R any](of func(*space) map[string]*R) func(*model, func(types.NamespacedName)) {
	return func(m *model, yield func(types.NamespacedName)) {
		for namespace, s := range m.spaces {
			for name := range of(s) {
				yield(types.NamespacedName{Namespace: namespace, Name: name})
			}
		}
	}
}

func knownBy[R any](of func(*model) map[string]*R) func(*model, func(types.NamespacedName)) {
	return func(m *model, yield func(types.NamespacedName)) {
		for name := range of(m) {
			yield(types.NamespacedName{Name: name})
		}
	}
}

func (m *model) knownEnsembles(yield func(types.NamespacedName)) {
	for _, s := range m.spaces {
		for _, e := range s.entries {
			yield(e.key)
		}
	}
}

// recordEnsemble keeps the object, without what only the API server needs.
func recordEnsemble(e *v1alpha1.Ensemble) *v1alpha1.Ensemble {
	if e.ManagedFields != nil {
		e = e.DeepCopy()
		e.ManagedFields = nil
	}
	return e
}
