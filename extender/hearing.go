package extender

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// hearing is what was heard of snapshots, behind a lock of its own: whoever tells of
// them must not wait for a decision.
type hearing struct {
	wake chan struct{}

	mu      sync.Mutex // guards below
	changed map[types.NamespacedName]struct{}
	news    chan struct{} // closed at the next snapshot
}

func newHearing() *hearing {
	return &hearing{changed: map[types.NamespacedName]struct{}{}, news: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// hear notes what changed; Run follows it up.
func (h *hearing) hear(_ *membership.Snapshot, changed []types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range changed {
		h.changed[key] = struct{}{}
	}
	close(h.news)
	h.news = make(chan struct{})
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// take empties what was noted.
func (h *hearing) take() map[types.NamespacedName]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := h.changed
	h.changed = map[types.NamespacedName]struct{}{}
	return changed
}

func (h *hearing) next() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.news
}
