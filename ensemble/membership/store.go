package membership

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// store is where a reflector puts the objects of one resource: into the model, as
// records. The objects themselves are dropped.
type store struct {
	informer *Informer
	resource resource
}

var _ cache.TransformingStore = &store{}

// Transformer makes a streamed list be records from the first object on.
func (s *store) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return s.item(object) }
}

func (s *store) item(object any) (item, error) {
	switch o := object.(type) {
	case item:
		return o, nil
	case runtime.Object:
		return s.resource.record(o), nil
	default:
		return item{}, fmt.Errorf("watch %s: got a %T", s.resource.name, object)
	}
}

// Add implements cache.ReflectorStore.
func (s *store) Add(object any) error { return s.Update(object) }

// Update implements cache.ReflectorStore.
func (s *store) Update(object any) error {
	it, err := s.item(object)
	if err != nil {
		return err
	}
	s.set(it)
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store) Delete(object any) error {
	it, err := s.item(object)
	if err != nil {
		return err
	}
	s.set(item{key: it.key})
	return nil
}

func (s *store) set(it item) {
	s.informer.mu.Lock()
	defer s.informer.mu.Unlock()
	s.resource.set(s.informer.model, it)
	s.informer.publish()
}

// Replace implements cache.ReflectorStore: what is not in the list is gone.
func (s *store) Replace(list []any, _ string) error {
	s.informer.mu.Lock()
	defer s.informer.mu.Unlock()
	gone := map[types.NamespacedName]struct{}{}
	s.resource.known(s.informer.model, func(key types.NamespacedName) { gone[key] = struct{}{} })
	for i, object := range list {
		it, err := s.item(object)
		if err != nil {
			return err
		}
		delete(gone, it.key)
		s.resource.set(s.informer.model, it)
		list[i] = nil // it may be long, and the objects large
	}
	for key := range gone {
		s.resource.set(s.informer.model, item{key: key})
	}
	delete(s.informer.waiting, s.resource.name)
	s.informer.publish()
	return nil
}

// Resync implements cache.ReflectorStore: nothing here forgets.
func (s *store) Resync() error { return nil }
