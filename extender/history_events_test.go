package extender

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// event is one of those of the core API after which the scheduler tries again whom
// no node was safe for. It hears of it at once; the view may lag behind it.
func (h *history) event() {
	clear(h.parked)
	h.happened = h.now
}

// nodes are deleted, with what runs there now or when it is collected, as a cloud takes
// back a zone's machines, or come back: first bare, then with their labels.
func (h *history) nodes() {
	if len(h.away) > 0 {
		h.comeBack()
		return
	}
	if h.registers && h.tell() && h.chance(25) {
		h.register()
		return
	}
	zone := string(rune('a' + h.choose(3)))
	h.note("the nodes of zone %s are deleted", zone)
	for _, n := range h.truth.nodeNames() {
		if strings.HasPrefix(n, zone) {
			h.away[n] = h.truth.nodes[n]
			h.truth.former[n] = h.truth.nodes[n]
			delete(h.truth.nodes, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) {
		if h.truth.pods[name].node != "" && h.chance(50) {
			h.collect(name)
		}
	}
	h.event()
	h.kill()
	h.busy()
}

// tell reports whether pods tell all domains that they are in: no other label of a node
// is on them.
func (h *history) tell() bool {
	return !slices.ContainsFunc(h.truth.levels, func(l v1alpha1.TopologyLevel) bool {
		return l.TopologyKey != corev1.LabelHostname && l.TopologyKey != corev1.LabelTopologyZone
	})
}

// register a node anew under a pod that runs on, bare at first: its zone's other nodes
// bear their labels all the time.
func (h *history) register() {
	_, p := h.pick(func(p *worldPod) bool { return h.truth.nodes[p.node] != nil })
	if p == nil {
		return
	}
	h.note("node %s is registered anew, bare", p.node)
	labels := h.truth.nodes[p.node]
	h.away[p.node], h.truth.former[p.node], h.bare[p.node] = labels, labels, true
	h.truth.nodes[p.node] = map[string]string{corev1.LabelHostname: p.node}
	h.event()
	h.kill()
	h.busy()
}

// busy is new pods that are seen and asked for at once.
func (h *history) busy() {
	for range 3 {
		h.controllers()
	}
	h.deliver()
	for range 4 {
		h.ask()
	}
}

// collect deletes a pod whose node is gone.
func (h *history) collect(name string) {
	if p := h.truth.pods[name]; p != nil && p.node != "" && h.truth.nodes[p.node] == nil {
		h.exit(name)
	}
}

// comeBack makes deleted nodes be there again; some of them get their labels a
// moment later. What runs there may do so all the time, if nobody collected it.
func (h *history) comeBack() {
	bare := h.chance(75)
	h.note("nodes are back, bare: %v: %v", bare, slices.Sorted(maps.Keys(h.away)))
	for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) {
		if h.chance(50) {
			h.collect(name)
		}
	}
	for n, labels := range h.away {
		h.truth.nodes[n] = labels
		if _, late := h.bare[n]; bare && !late {
			h.truth.nodes[n] = map[string]string{corev1.LabelHostname: n}
			h.bare[n] = true
			continue
		}
		delete(h.away, n)
		delete(h.bare, n)
	}
	h.event()
}

// settle ends all faults, those of the nodes and roles last, and looks whether every pod that
// has a safe place gets one within the horizon. Watches go on to lag.
func (h *history) settle() error {
	h.lag = time.Duration(500+h.choose(2500)) * time.Millisecond
	h.note("binds fail no more; the view is %v behind", h.lag)
	if len(h.away) == 0 {
		h.nodes()
	}
	h.hurry(8 * time.Second)
	if err := h.calm(time.Duration(h.choose(100)) * time.Second); err != nil {
		return err
	}
	h.note("faults end")
	clear(h.down)
	h.event()
	for len(h.away) > 0 {
		h.comeBack()
		// Longer than the scheduler's backoff: then it asks at the very event.
		if err := h.calm(time.Duration(h.choose(25)) * time.Second); err != nil {
			return err
		}
	}
	if h.chance(50) { // no event of the core API
		h.roles()
	}
	if err := h.calm(horizon); err != nil {
		return err
	}
	return h.starved()
}

// calm is time without faults.
func (h *history) calm(d time.Duration) error {
	for end := h.now.Add(d); h.now.Before(end); h.now = h.now.Add(250 * time.Millisecond) {
		for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) {
			if h.truth.pods[name].terminating {
				h.exit(name)
			}
		}
		h.controllers()
		if err := h.land(); err != nil {
			return err
		}
		if d := h.now.Sub(h.delivered); d >= maxLag || d >= time.Second && h.now.Sub(h.happened) >= h.lag {
			h.deliver()
		}
		for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) {
			if p := h.truth.pods[name]; h.waits(p) && !h.now.Before(h.ready[name]) {
				up := slices.DeleteFunc(h.truth.nodeNames(), func(n string) bool { return h.down[n] || !h.truth.allows(name, n) })
				h.attempt(name, p, up, false)
			}
		}
	}
	return nil
}

// waits reports whether the scheduler would try the pod.
func (h *history) waits(p *worldPod) bool {
	return p.node == "" && !p.terminating && !p.gated && !h.flying(p.uid) && !h.parked[p.uid]
}
