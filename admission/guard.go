package admission

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Examiner asks the members of an ensemble how they are.
type Examiner interface {
	// Examine asks each of the pods and returns one view of them, in their order, by
	// the time ctx ends. What was not heard by then is unseen.
	Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View
}

// Config is what a Guard needs. Cluster and Examiner have no default.
type Config struct {
	Cluster  Cluster
	Examiner Examiner
	// Memory of the grants seen; shared with whoever else in the process looks at
	// them. nil: its own.
	Memory *Memory
	// Timing of grants. Zero: the defaults, which are law outside tests.
	Timing Timing
	// Deadline of one judgement: below the timeout of the webhook. Default 4.5 s.
	Deadline time.Duration
	// Events that people see on the Ensemble. nil: none.
	Events Recorder
	// Metrics to register with. nil: not exported.
	Metrics prometheus.Registerer
	// Now is the clock of ages. Default time.Now.
	Now func() time.Time
}

// Guard judges requests by the protocol that doc.go tells. It is safe for
// concurrent use, and any number of replicas may judge side by side.
type Guard struct {
	cluster  Cluster
	rounds   *rounds
	memory   *Memory
	timing   Timing
	deadline time.Duration
	events   Recorder
	metrics  *metrics
	now      func() time.Time
	hints    *hints
}

// New makes a guard.
func New(c Config) (*Guard, error) {
	if c.Cluster == nil || c.Examiner == nil {
		return nil, errors.New("make guard: Cluster and Examiner are needed")
	}
	g := &Guard{
		cluster: c.Cluster, memory: c.Memory, timing: c.Timing.WithDefaults(),
		deadline: c.Deadline, events: c.Events, now: c.Now, hints: newHints(),
	}
	if g.memory == nil {
		g.memory = NewMemory(Remembered)
	}
	if g.deadline <= 0 {
		g.deadline = 4500 * time.Millisecond
	}
	if g.now == nil {
		g.now = time.Now
	}
	var err error
	if g.metrics, err = newMetrics(c.Metrics, g.memory, g.now); err != nil {
		return nil, fmt.Errorf("make guard: %w", err)
	}
	g.rounds = newRounds(c.Examiner, g.metrics, g.now)
	return g, nil
}

// Judge answers one request, within the deadline and ctx. A yes about members is
// written before it is returned, unless the request is a dry run. A no writes nothing, but
// for dropping grants that have ended.
func (g *Guard) Judge(ctx context.Context, r Request) Decision {
	ctx, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	for {
		d, again := g.attempt(ctx, r)
		if !again {
			return d
		}
		if err := pause(ctx); err != nil {
			return Decision{Outcome: DenyContention, Ensemble: d.Ensemble, Message: "others changed the Ensemble's grants all the time; retry"}
		}
	}
}

// pause is short and random, so that replicas in a conflict part.
func pause(ctx context.Context) error {
	t := time.NewTimer(time.Duration(5+rand.IntN(45)) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt is the protocol once. again is whether to start over, since what it
// read was changed.
func (g *Guard) attempt(ctx context.Context, r Request) (d Decision, again bool) {
	pod, d, done := g.subject(ctx, &r)
	if done {
		return d, false
	}
	cases, d, done := g.open(ctx, &r, pod)
	if done {
		return d, false
	}
	switch {
	case len(cases) == 0:
		return Decision{Outcome: AllowNoMember}, false
	case r.Verb == DeleteStatefulSet:
		return keepStatefulSet(&r, cases), false
	}
	return g.settle(ctx, &r, cases)
}

// subject is step 1: the pod, or the StatefulSet, by a live read. done is whether
// that settles it.
func (g *Guard) subject(ctx context.Context, r *Request) (pod *corev1.Pod, d Decision, done bool) {
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	switch r.Verb {
	case Evict, DeletePod:
		pod, err := g.cluster.Pod(ctx, key)
		if d, done := alive(r, pod, err); done {
			return nil, d, true
		}
		if r.Budget, err = g.budgeted(ctx, r, pod); err != nil {
			return nil, unread(err), true
		}
		return pod, Decision{}, false
	case Shrink, DeleteStatefulSet:
		if r.Range.Owner != "" {
			return nil, Decision{}, false
		}
		set, err := g.cluster.StatefulSet(ctx, key)
		switch {
		case apierrors.IsNotFound(err):
			return nil, Decision{Outcome: AllowGoing}, true
		case err != nil:
			return nil, unread(err), true
		}
		r.Range.Owner = set.UID
		if set.Spec.Ordinals != nil {
			r.Range.Start = int(set.Spec.Ordinals.Start)
		}
		return nil, Decision{}, false
	default:
		return nil, Decision{Outcome: DenyError, Message: "this request is not one that is judged"}, true
	}
}

// alive judges what the live read of the pod settles. A request that is not bound
// to a uid and finds its pod on the way out may hit the next one of that name.
func alive(r *Request, pod *corev1.Pod, err error) (d Decision, done bool) {
	switch {
	case apierrors.IsNotFound(err):
		return Decision{Outcome: DenyStale, Message: fmt.Sprintf("pods %q not found", r.Name)}, true
	case err != nil:
		return unread(err), true
	case r.PodUID != "" && pod.UID != r.PodUID:
		return Decision{Outcome: DenyStale, Message: fmt.Sprintf("pods %q not found: the pod of uid %s is gone, another bears its name", r.Name, r.PodUID)}, true
	case r.outdated(pod.ResourceVersion):
		return changed(r), true
	case pod.DeletionTimestamp == nil && !finished(pod):
		return Decision{}, false
	case r.PodUID == "":
		return Decision{Outcome: DenyStale, Message: fmt.Sprintf("pods %q is on its way out, and this request is not bound to its uid: it might hit the next one of that name", r.Name)}, true
	default:
		return Decision{Outcome: AllowGoing}, true
	}
}

// changedMeanwhile reads the version of a bound pod once more: a member that fails to
// start changes often, and the probes took their time. What changes from here to the
// API server's own look is refused by it with 409.
func (g *Guard) changedMeanwhile(ctx context.Context, r *Request) (d Decision, stale bool) {
	if r.Verb != Evict || r.PodVersion == "" {
		return Decision{}, false
	}
	pod, err := g.cluster.Pod(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Name})
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return unread(err), true
	case err != nil || r.outdated(pod.ResourceVersion):
		return changed(r), true
	default:
		return Decision{}, false
	}
}

// changed asks for the request once more, so that it is bound to the pod as it is now.
func changed(r *Request) Decision {
	return Decision{Outcome: DenyChanged, Message: fmt.Sprintf("pods %q is not as it was when the eviction was bound to it; retry", r.Name)}
}

func unread(err error) Decision {
	return Decision{Outcome: DenyError, Message: "what the decision rests on could not be read: " + err.Error() + "; retry"}
}

// matter is one Ensemble that a request is about.
type matter struct {
	ev      Evidence
	targets []int
	d       Decision
}

// open is steps 2 and 3 for every Ensemble that the request is about.
func (g *Guard) open(ctx context.Context, r *Request, pod *corev1.Pod) (cases []matter, d Decision, done bool) {
	ensembles, err := g.cluster.Ensembles(ctx, r.Namespace)
	if err != nil {
		return nil, unread(err), true
	}
	for i := range ensembles {
		e := &ensembles[i]
		if e.DeletionTimestamp != nil {
			continue
		}
		m, d, ok := g.matter(ctx, r, pod, e)
		switch {
		case !ok && d.Outcome != "":
			return nil, d, true
		case ok:
			cases = append(cases, m)
		}
	}
	return cases, Decision{}, false
}

// matter gathers the evidence about one Ensemble if the request concerns it.
func (g *Guard) matter(ctx context.Context, r *Request, pod *corev1.Pod, e *v1alpha1.Ensemble) (m matter, d Decision, ok bool) {
	ages := g.memory.See(e, g.now())
	name := e.Namespace + "/" + e.Name
	s, err := selectors(e)
	if err != nil {
		return m, Decision{Outcome: DenyError, Ensemble: name, Message: "the Ensemble's selector cannot be read: " + err.Error()}, false
	}
	if pod != nil && !s.member(pod) {
		return m, Decision{}, false
	}
	pods, err := g.members(ctx, e, s)
	if err != nil {
		d := unread(err)
		d.Ensemble = name
		return m, d, false
	}
	m.ev = Evidence{Ensemble: e, Ages: ages, Now: g.now()}
	for i := range pods {
		p := s.pod(&pods[i])
		m.ev.Pods = append(m.ev.Pods, p)
		if r.loses(&p) {
			m.targets = append(m.targets, i)
		}
	}
	if len(m.targets) == 0 && pod == nil {
		return m, Decision{}, false
	}
	if !g.look(ctx, &m.ev, pods) {
		return m, Decision{Outcome: DenyContention, Ensemble: name, Message: "no time was left to ask the members; retry"}, false
	}
	return m, Decision{}, true
}

// look is the live part of the evidence: what became of the granted pods, and how the
// members are. ok is whether there was time for it.
func (g *Guard) look(ctx context.Context, ev *Evidence, pods []corev1.Pod) (ok bool) {
	ev.Fates = g.fates(ctx, ev.Ensemble, ev.Pods)
	if ev.View, ok = g.rounds.examine(ctx, ev.Ensemble, pods); !ok {
		return false
	}
	ev.Now = g.now()
	if ev.well() {
		g.memory.Settle(ev.Ensemble.UID, &ev.View)
		g.memory.Probed(ev)
	}
	return true
}

// settle is steps 4 to 6: decide about every Ensemble first, then write.
func (g *Guard) settle(ctx context.Context, r *Request, cases []matter) (d Decision, again bool) {
	if !r.DryRun {
		if armed := g.arm(ctx, cases); armed {
			return Decision{}, true
		}
	}
	for i := range cases {
		m := &cases[i]
		if (r.Verb == Evict || r.Verb == DeletePod) && len(m.targets) == 0 {
			return Decision{}, true // the pod went between two reads
		}
		if slices.ContainsFunc(m.targets, func(i int) bool { return r.outdated(m.ev.Pods[i].Version) }) {
			return changed(r), false
		}
		ask := Ask{Targets: m.targets, Reason: r.reason(), RequestUID: r.UID, User: r.User, Exact: r.exact(m.ev.Pods, m.targets), Budget: r.Budget}
		if r.Verb == Evict {
			ask.Waiting = g.hints.waiting(m, g.now())
		}
		m.d = Decide(m.ev, ask, g.timing)
		g.metrics.evidence.Observe(m.d.Age.Seconds())
		if r.Verb == Evict && !r.DryRun {
			g.hints.note(m, g.now())
		}
		switch {
		case !m.d.Outcome.Allowed():
			return m.d, !r.DryRun && g.drop(ctx, m)
		case m.d.Outcome == AllowGoing && r.PodUID == "" && r.Verb == Evict:
			return m.d, true // it began to go between two reads, and the next one may be hit
		}
	}
	if r.DryRun {
		return cases[0].d, false
	}
	if d, stale := g.changedMeanwhile(ctx, r); stale {
		return d, false
	}
	d, again = g.commit(ctx, r, cases)
	if !d.Outcome.Allowed() {
		klog.FromContext(ctx).V(2).Info("Took no grant", "ensemble", d.Ensemble, "outcome", d.Outcome)
	}
	return d, again
}

// keepStatefulSet refuses to delete the StatefulSet of a live ensemble: no retry can
// cure it. One whose members are all known not to vote may go.
func keepStatefulSet(r *Request, cases []matter) Decision {
	d := Decision{Outcome: AllowGoing}
	for i := range cases {
		ev := &cases[i].ev
		for _, k := range ev.remaining(cases[i].targets) {
			if !ev.well() || !ev.View.Known || ev.votes(k) {
				return Decision{Outcome: DenyStatefulSet, Ensemble: ev.Ensemble.Namespace + "/" + ev.Ensemble.Name, Message: fmt.Sprintf(
					"deleting statefulset %s would take all its members from the live ensemble %s: delete the Ensemble first, or keep the pods (--cascade=orphan), or break the glass (--as-group=%s)",
					r.Name, ev.Ensemble.Name, BreakGlassGroup)}
			}
			d.Outcome = AllowNoVoter
		}
	}
	return d
}
