package extender

import (
	"maps"
	"slices"
	"time"
)

// claim is the scheduler giving the pod's claim to the node before it binds the pod:
// from then on the member is bound to that place. It may be all that lands of a bind
// that was given up.
func (h *history) claim(f *flight) error {
	if h.truth.selected[f.pod] != "" || h.truth.volumes[f.pod] != nil {
		return nil // to another one, earlier
	}
	unsafe := h.judge(f)
	h.truth.selected[f.pod] = f.node
	h.note("%s's claim is given to %s", f.pod, f.node)
	h.event()
	if err := unsafe(); err != nil || h.now.After(f.gaveUp) {
		return err
	}
	f.claimed, f.lands = true, h.now.Add(time.Duration(h.choose(8000))*time.Millisecond)
	f.gaveUp = f.lands.Add(time.Millisecond)
	h.next = append(h.next, f)
	return nil
}

// provide reports whether the pod can be bound: its volume is there. Even then it may
// fail, and leave the volume behind.
func (h *history) provide(f *flight) bool {
	if f.claimed && h.truth.selected[f.pod] == f.node {
		h.provisionOne(f.pod)
	}
	bound := h.truth.volumes[f.pod] != nil && h.truth.allows(f.pod, f.node)
	if !bound || !f.faults || h.chance(70) {
		return bound
	}
	h.note("%s can't be bound to %s", f.pod, f.node)
	return false
}

// provision makes volumes for claims; it gives up those for nodes that are gone, which
// the scheduler then may give to another.
func (h *history) provision() {
	for _, name := range slices.Sorted(maps.Keys(h.truth.selected)) {
		if h.chance(20) {
			h.provisionOne(name)
		}
	}
}

func (h *history) provisionOne(name string) {
	labels, there := h.truth.nodes[h.truth.selected[name]]
	if there && labels[h.pinning] == "" {
		return
	}
	delete(h.truth.selected, name)
	if there {
		h.truth.volumes[name] = map[string]string{h.pinning: labels[h.pinning]}
	}
	h.note("%s's volume is bound to %q", name, labels[h.pinning])
	h.event()
}
