package extender

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
)

// decider is what is put to the test: a Ledger, or a control.
type decider interface {
	Filter(now time.Time, nodes Nodes, e *membership.Ensemble, uid types.UID, given []string, nominated bool) Answer
	See(now time.Time, e *membership.Ensemble)
	Reopened(nodes Nodes, e *membership.Ensemble) []*membership.Member
}

// history is a random life of a cluster: a scheduler that binds late, in vain, or
// after it gave up; watches that lag; nodes, pods, numbers and roles that change.
type history struct {
	choose  func(n int) int
	decider func() decider
	// registers says that nodes are also registered anew under what runs on them.
	registers bool

	truth *world
	now   time.Time
	sight
	d        decider
	idle     *standby
	lag      time.Duration // of the view behind events, once binds fail no more
	happened time.Time     // the last event
	serial   int
	down     map[string]bool
	away     map[string]map[string]string // labels of the nodes that were deleted
	bare     map[string]bool              // those of them that are back without labels
	pinning  string                       // the node label that volumes are bound by; empty: there are none
	parked   map[types.UID]bool           // until the scheduler sees an event, or a poke
	flights  []*flight
	next     []*flight            // what is to follow those that land
	ready    map[string]time.Time // when a pending pod is asked for again
	tries    map[string]int
	log      []string
}

// sight is what was delivered of the truth, and when.
type sight struct {
	view      *world
	snapshot  *membership.Snapshot // of view
	delivered time.Time
}

func (s sight) ensemble() *membership.Ensemble { return s.view.ensemble(s.snapshot) }

// flight is a bind on its way.
type flight struct {
	pod, node string
	uid       types.UID
	lands     time.Time // zero: never
	gaveUp    time.Time // when the scheduler thinks that it failed
	faults    bool
	claimed   bool            // its claim is given to the node
	pinned    map[string]bool // where its volume had it already at the answer
	orphaned  bool            // that scheduler is not the active one any more
	sizes     []int           // of the StatefulSet since the answer
	roles     int             // the edition of them that it was answered for
	live      *live
	mute      []string // the observers with a weight at the answer
	// excused are those that were bound when the pod was one of two voters or fewer,
	// who may go anywhere: next to those on their way out, too.
	excused map[types.UID]bool
}

const (
	steps   = 120
	maxLag  = 3 * time.Second
	horizon = 90 * time.Second // until everything placeable is placed, once faults end
)

func (h *history) chance(percent int) bool { return h.choose(100) < percent }

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%4.0fs ", h.now.Sub(time.Unix(0, 0)).Seconds())+fmt.Sprintf(format, args...))
}

var shapes = [][]string{{"zone"}, {"zone", "host"}, {"host"}, {"host", "zone", "rack<zone"}, {"zone", "feed"}, {"zone", "host?"}}

// play runs a history. The error says what broke: safety at a step, or progress
// within the horizon after the last fault.
func (h *history) play() error {
	h.truth, h.now = newWorld(), time.Unix(0, 0)
	h.down, h.ready, h.tries = map[string]bool{}, map[string]time.Time{}, map[string]int{}
	h.away, h.bare, h.parked = map[string]map[string]string{}, map[string]bool{}, map[types.UID]bool{}
	zones := 3 + h.choose(3)/2
	for z := range zones {
		for i := range 1 + h.choose(3) {
			zone := string(rune('a' + z))
			h.truth.addNode(fmt.Sprintf("%s%d", zone, i), map[string]string{
				"zone": zone, "rack": fmt.Sprint("r", i%2), "feed": fmt.Sprint("f", (z+i)%4)})
		}
	}
	for _, word := range shapes[h.choose(len(shapes))] {
		h.truth.levels = append(h.truth.levels, level(word))
	}
	h.truth.voters = 3 + 2*h.choose(3)
	h.pinning = []string{"", "", keys["zone"], keys["host"]}[h.choose(4)]
	h.electorates()
	h.note("levels %v, %d voters, nodes %v", h.truth.levels, h.truth.voters, h.truth.nodeNames())
	h.d, h.idle = h.decider(), &standby{d: h.decider()}
	h.deliver()
	for range steps {
		if err := h.step(); err != nil {
			return err
		}
	}
	return h.settle()
}

// step is one random thing that happens.
func (h *history) step() error {
	if err := h.pass(time.Duration(h.choose(4000)) * time.Millisecond); err != nil {
		return err
	}
	switch x := h.choose(100); {
	case x < 45:
		h.ask()
	case x < 60:
		h.deliver()
	case x < 72:
		h.kill()
	case x < 78:
		h.zone()
	case x < 82:
		h.scale()
	case x < 84:
		h.restart()
	case x < 86:
		h.takeover()
	case x < 87:
		h.preempt()
	case x < 91:
		h.roles()
	case x < 94:
		h.nodes()
	case x < 96:
		if err := h.pass(time.Duration(h.choose(90)) * time.Second); err != nil {
			return err
		}
	}
	h.controllers()
	return h.land()
}

// pass lets time go by. Watches lag, but by less than Timing.Lag.
func (h *history) pass(d time.Duration) error {
	for end := h.now.Add(d); ; {
		if err := h.land(); err != nil {
			return err
		}
		if h.now.Sub(h.delivered) >= maxLag {
			h.deliver()
		}
		if !h.now.Before(end) {
			return nil
		}
		h.now = h.now.Add(min(time.Second, end.Sub(h.now)))
	}
}

// controllers do what StatefulSet controller and kubelets do.
func (h *history) controllers() {
	h.provision()
	h.ungate()
	for _, name := range slices.Sorted(maps.Keys(h.truth.pods)) { // in order: a seed is one history
		switch {
		case h.truth.pods[name].terminating && h.chance(40):
			h.exit(name)
		case h.chance(10):
			h.collect(name)
		}
	}
	for i := range h.truth.voters {
		name := fmt.Sprintf("zk-%d", i)
		if h.truth.pods[name] == nil && h.chance(60) {
			h.serial++
			h.truth.pods[name] = &worldPod{uid: types.UID(fmt.Sprintf("%s.%d", name, h.serial)), gated: h.chance(20)}
			h.ready[name], h.tries[name] = h.now, 0
		}
	}
	for i := h.truth.voters; i < 8; i++ {
		if p := h.truth.pods[fmt.Sprintf("zk-%d", i)]; p != nil {
			h.remove(fmt.Sprintf("zk-%d", i), p)
		}
	}
}

func (h *history) remove(name string, p *worldPod) {
	if p.node == "" {
		delete(h.truth.pods, name)
		return
	}
	p.terminating = true
}

func (h *history) exit(name string) {
	delete(h.truth.pods, name)
	h.note("%s exits", name)
	h.event()
}

func (h *history) kill() {
	if name, p := h.pick(func(p *worldPod) bool { return !p.terminating }); p != nil {
		h.note("kill %s", name)
		h.remove(name, p)
		if h.chance(15) {
			delete(h.truth.volumes, name)
			delete(h.truth.selected, name)
		}
	}
}

func (h *history) pick(fits func(*worldPod) bool) (string, *worldPod) {
	var names []string
	for name, p := range h.truth.pods {
		if fits(p) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	name := names[h.choose(len(names))]
	return name, h.truth.pods[name]
}

// zone takes the nodes of a zone away for new pods, or brings them back.
func (h *history) zone() {
	zone := string(rune('a' + h.choose(4)))
	lost := h.chance(50)
	h.note("zone %s lost: %v", zone, lost)
	for n := range h.truth.nodes {
		if strings.HasPrefix(n, zone) {
			h.down[n] = lost
		}
	}
	h.event()
}

func (h *history) scale() {
	h.truth.voters = []int{1, 3, 3, 5, 5, 7}[h.choose(6)]
	h.note("scale to %d", h.truth.voters)
	for _, f := range h.flights {
		f.sizes = append(f.sizes, h.truth.voters)
	}
}

// deliver makes the view what the truth is.
func (h *history) deliver() {
	h.idle.follow(h.now, h.sight)
	h.view, h.delivered = h.truth.clone(), h.now
	h.snapshot = h.view.snapshot()
	e := h.ensemble()
	h.d.See(h.now, e)
	for _, m := range h.d.Reopened(h.snapshot, e) {
		h.note("poke %s", m.Name)
		delete(h.parked, m.UID)
	}
}

// ask is one scheduling attempt for a pod that waits.
func (h *history) ask() {
	name, p := h.pick(h.waits)
	if p == nil || h.now.Before(h.ready[name]) {
		return
	}
	var given []string
	for _, n := range h.truth.nodeNames() {
		if !h.down[n] && h.chance(85) && h.truth.allows(name, n) {
			given = append(given, n)
		}
	}
	h.attempt(name, p, given, true)
}

// filter asks for the nominated node alone first, as the scheduler does.
func (h *history) filter(p *worldPod, given []string) Answer {
	if slices.Contains(given, p.nominated) {
		if a := h.d.Filter(h.now, h.snapshot, h.ensemble(), p.uid, []string{p.nominated}, true); len(a.Nodes) > 0 {
			return a
		}
	}
	return h.d.Filter(h.now, h.snapshot, h.ensemble(), p.uid, given, false)
}

func (h *history) flying(uid types.UID) bool {
	return slices.ContainsFunc(h.flights, func(f *flight) bool { return f.uid == uid && f.gaveUp.After(h.now) })
}

// attempt asks and, if a node is given, binds; with faults it may take long, fail,
// or land after the scheduler gave it up.
func (h *history) attempt(name string, p *worldPod, given []string, faults bool) {
	h.tries[name]++
	h.ready[name] = h.now.Add(min(10*time.Second, time.Second<<min(h.tries[name]-1, 4)))
	if len(given) == 0 {
		p.condition = "no node fits"
		h.parked[p.uid] = true
		return
	}
	a := h.filter(p, given)
	h.note("ask %s among %v: %v %v %s", name, given, a.Outcome, a.Nodes, a.Message)
	if len(a.Nodes) == 0 {
		p.condition, p.nominated = fmt.Sprint(a.Outcome), ""
		h.parked[p.uid] = !a.Outcome.Temporary()
		return
	}
	f := &flight{pod: name, uid: p.uid, node: a.Nodes[h.choose(len(a.Nodes))], lands: h.now, gaveUp: h.now.Add(time.Millisecond), sizes: []int{h.view.voters, h.truth.voters}, roles: h.view.edition, live: h.view.live, faults: faults, pinned: map[string]bool{}}
	f.mute = append(h.view.declared(0).mute, h.truth.declared(0).mute...)
	for _, d := range h.view.pinned(name) {
		f.pinned[d] = true
	}
	if h.view.voters <= 2 {
		f.excused = h.bound()
	}
	if faults {
		f.delay(h)
		if h.chance(20) {
			h.wait(p, f)
		}
	}
	h.flights = append(h.flights, f)
	if f.lands.After(h.now.Add(time.Minute)) && h.chance(70) {
		h.restart() // which soon leaves nothing to know it by, but the nominated node
	}
}

func (h *history) bound() map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, p := range h.truth.pods {
		if p.node != "" {
			uids[p.uid] = true
		}
	}
	return uids
}

func (f *flight) delay(h *history) {
	switch x := h.choose(10); {
	case x < 4: // slow
		f.lands = h.now.Add(time.Duration(h.choose(8000)) * time.Millisecond)
		f.gaveUp = f.lands.Add(time.Millisecond)
	case x < 7: // in vain
		f.lands = time.Time{}
		f.gaveUp = h.now.Add(time.Duration(1+h.choose(3000)) * time.Millisecond)
	default: // given up, and it lands nevertheless
		f.gaveUp = h.now.Add(time.Duration(1+h.choose(5000)) * time.Millisecond)
		f.lands = h.now.Add(time.Duration(h.choose(58000)) * time.Millisecond)
	}
}

// land lets binds arrive that are due, and looks whether each was safe.
func (h *history) land() error {
	slices.SortStableFunc(h.flights, func(a, b *flight) int { return a.lands.Compare(b.lands) })
	var left []*flight
	for _, f := range h.flights {
		switch {
		case f.lands.IsZero() && h.now.Before(f.gaveUp), f.lands.After(h.now):
			left = append(left, f)
		case !f.lands.IsZero():
			if err := h.bind(f); err != nil {
				return err
			}
		}
		if p := h.truth.pods[f.pod]; p != nil && p.uid == f.uid && p.node == "" && !h.now.Before(f.gaveUp) && !f.orphaned {
			if p.condition = "bind failed"; !h.flying(p.uid) {
				p.nominated = ""
			}
		}
	}
	h.flights = append(left, h.next...)
	h.next = nil
	return nil
}

// bind is what the API server does with a binding, and the model's check of it.
func (h *history) bind(f *flight) error {
	p := h.truth.pods[f.pod]
	if p == nil || p.uid != f.uid || p.node != "" || p.terminating {
		return nil
	}
	if h.truth.nodes[f.node] == nil {
		h.exit(f.pod) // the garbage collector takes what is bound to no node
		return nil
	}
	if h.pinning != "" && !h.provide(f) {
		return h.claim(f)
	}
	unsafe := h.judge(f)
	h.truth.run(p, f.node)
	h.note("%s lands on %s", f.pod, f.node)
	h.event()
	return unsafe()
}

// judge looks before a bind and, when the result is called, after it: it must make no
// domain one that the voters can't lose, neither the declared ones, nor the live ones.
// What it was answered for may have changed since. Of the numbers there were, it has to
// be safe for one: whoever was told later of the same domain was told by that. Other
// voters than those it was answered for it need not be safe for.
func (h *history) judge(f *flight) (unsafe func() error) {
	w := h.truth
	is, _ := w.elected()
	excused := func(p *worldPod) bool { return f.excused[p.uid] }
	fatal := func() (declared []map[string]bool, live map[string]bool) {
		if h.pinning != "" && slices.Min(f.sizes) != slices.Max(f.sizes) {
			return nil, nil // claims of more, or fewer, replicas came to count
		}
		for _, n := range f.sizes {
			// A single voter is let go anywhere; by weight it may come to be one too many alone.
			free := f.excused != nil && w.quorum != nil
			e := w.declared(n)
			e.mute = slices.DeleteFunc(e.mute, func(name string) bool { return !slices.Contains(f.mute, name) }) // they came since
			if e.voters > 2 && e.spares(f.pod) && f.roles == w.edition && !free {
				declared = append(declared, w.fatal(e, excused))
			}
		}
		if f.live == w.live && is.spares(f.pod) {
			live = w.fatal(is, nobodyExcused)
		}
		return declared, live
	}
	before, liveBefore := fatal()
	return func() error {
		after, liveAfter := fatal()
		for i := range after {
			for d := range after[i] {
				if !before[i][d] && !f.pinned[d] && !slices.ContainsFunc(after, func(other map[string]bool) bool { return !other[d] }) {
					return fmt.Errorf("unsafe: with %s on %s, %s holds voters that %v can't do without", f.pod, f.node, d, f.sizes)
				}
			}
		}
		for d := range liveAfter {
			if !liveBefore[d] && !f.pinned[d] {
				return fmt.Errorf("unsafe: with %s on %s, %s holds voters that the live %v can't do without", f.pod, f.node, d, is.names)
			}
		}
		return nil
	}
}
