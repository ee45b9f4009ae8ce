package admission

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// wanted is how long somebody who was refused is thought to try again: drainers
	// do so every 5 to 10 s.
	wanted = 15 * time.Second
	// heldBack is how long a leader waits for others, at most, once in restHold.
	heldBack = 30 * time.Second
	restHold = 5 * time.Minute
)

// hints remember who was refused, so that a leader goes last. They are of one
// replica and never necessary: without them a leader just goes earlier.
type hints struct {
	mu    sync.Mutex // guards below
	asked *lru.Cache[hintKey, time.Time]
	held  *lru.Cache[hintKey, time.Time]
}

type hintKey struct {
	ensemble types.UID
	name     string
}

func newHints() *hints {
	asked, err := lru.New[hintKey, time.Time](1024)
	if err != nil {
		panic("admission: " + err.Error())
	}
	held, err := lru.New[hintKey, time.Time](1024)
	if err != nil {
		panic("admission: " + err.Error())
	}
	return &hints{asked: asked, held: held}
}

// waiting are the members that were refused lately, unless the one asked for was
// held back for long enough.
func (h *hints) waiting(m *matter, now time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(m.targets) != 1 {
		return nil
	}
	target := m.ev.Pods[m.targets[0]].Name
	since, ok := h.held.Get(hintKey{m.ev.Ensemble.UID, target})
	if age := now.Sub(since); ok && age >= heldBack && age < restHold {
		return nil
	}
	var names []string
	for i := range m.ev.Pods {
		name := m.ev.Pods[i].Name
		at, ok := h.asked.Get(hintKey{m.ev.Ensemble.UID, name})
		if ok && name != target && now.Sub(at) < wanted {
			names = append(names, name)
		}
	}
	return names
}

// note remembers who was refused, and how long a leader has been held back.
func (h *hints) note(m *matter, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range m.targets {
		key := hintKey{m.ev.Ensemble.UID, m.ev.Pods[i].Name}
		if m.d.Outcome.Allowed() {
			h.asked.Remove(key)
			continue
		}
		h.asked.Add(key, now)
		if since, ok := h.held.Get(key); m.d.Outcome == DenyLeaderLast && (!ok || now.Sub(since) >= restHold) {
			h.held.Add(key, now)
		}
	}
}
