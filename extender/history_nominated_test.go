package extender

import (
	"maps"
	"slices"
	"time"
)

// ungate takes scheduling gates away.
func (h *history) ungate() {
	for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) {
		if p := h.truth.pods[name]; p.gated && h.chance(25) {
			p.gated = false
			h.note("%s waits for no gate any more", name)
		}
	}
}

// preempt nominates a node for a pod that waits, without asking.
func (h *history) preempt() {
	name, p := h.pick(h.waits)
	if p == nil {
		return
	}
	nodes := slices.DeleteFunc(h.truth.nodeNames(), func(n string) bool { return !h.truth.allows(name, n) })
	if len(nodes) == 0 {
		return
	}
	p.nominated = nodes[h.choose(len(nodes))]
	h.note("%s is nominated for %s", name, p.nominated)
	delete(h.parked, p.uid)
}

// wait makes the bind one that waits for permission, for minutes. The scheduler
// nominates the node meanwhile, and tries no other.
func (h *history) wait(p *worldPod, f *flight) {
	f.lands = h.now.Add(time.Duration(60+h.choose(140)) * time.Second)
	f.gaveUp = f.lands.Add(time.Millisecond)
	p.nominated = f.node
	h.note("%s waits to be let to %s", f.pod, f.node)
}

// hurry makes binds land by then, or never.
func (h *history) hurry(left time.Duration) {
	for _, f := range h.flights {
		if f.lands.After(h.now.Add(left)) {
			f.lands, f.gaveUp = time.Time{}, h.now
		}
	}
}
