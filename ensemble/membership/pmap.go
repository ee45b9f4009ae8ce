package membership

import (
	"hash/maphash"
	"iter"
	"maps"
)

// pmap is an immutable map in shards: a changed copy shares all shards but one,
// so that one update among thousands of entries costs microseconds.
type pmap[K comparable, V any] struct {
	seed   maphash.Seed
	shards [64]map[K]V
}

func newPmap[K comparable, V any]() *pmap[K, V] {
	return &pmap[K, V]{seed: maphash.MakeSeed()}
}

func (m *pmap[K, V]) shard(k K) uint64 {
	return maphash.Comparable(m.seed, k) % uint64(len(m.shards))
}

func (m *pmap[K, V]) get(k K) (v V, ok bool) {
	v, ok = m.shards[m.shard(k)][k]
	return v, ok
}

func (m *pmap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, s := range m.shards {
			for k, v := range s {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// with returns a map in which the entries of changed replace those of m; nil
// entries of drop are taken out.
func (m *pmap[K, V]) with(changed map[K]V, drop map[K]struct{}) *pmap[K, V] {
	next := *m
	var own [64]bool
	touch := func(k K) map[K]V {
		i := m.shard(k)
		if !own[i] {
			own[i] = true
			if next.shards[i] = maps.Clone(m.shards[i]); next.shards[i] == nil {
				next.shards[i] = map[K]V{}
			}
		}
		return next.shards[i]
	}
	for k, v := range changed {
		touch(k)[k] = v
	}
	for k := range drop {
		delete(touch(k), k)
	}
	return &next
}
