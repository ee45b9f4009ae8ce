package admission

import (
	"cmp"
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// lastWrite is how much of the deadline must be left to begin a write.
const lastWrite = 250 * time.Millisecond

// timeToWrite reports whether enough of it is left.
func timeToWrite(ctx context.Context) bool {
	deadline, has := ctx.Deadline()
	return ctx.Err() == nil && (!has || time.Until(deadline) >= lastWrite)
}

// timeToWithdraw may be beyond the deadline, and leaves half of what is left until the API
// server gives up to the answer: a drain ends where none comes, and tries again after a no.
func timeToWithdraw(ctx context.Context) time.Duration {
	if d, told := awaited(ctx); told {
		return min(time.Second, d/2)
	}
	return time.Second
}

// arm takes the next step towards Armed where there is one. It reports whether an
// Ensemble was written, so that it must be read again.
func (g *Guard) arm(ctx context.Context, cases []matter) bool {
	written := false
	for i := range cases {
		e := cases[i].ev.Ensemble
		step := Arming(e, cases[i].ev.Ages, g.timing)
		if step == nil {
			continue
		}
		next := e.DeepCopy()
		next.Status.Guard = step
		if err := g.cluster.UpdateStatus(ctx, next); err != nil && !apierrors.IsConflict(err) {
			klog.FromContext(ctx).Error(err, "Could not arm the guard", "ensemble", klog.KObj(e))
			continue
		}
		written = true
	}
	return written
}

// commit is step 5: every yes is written against what it was decided on, in the
// order of the Ensembles' uids. It reports again after a conflict. On any failure
// the yeses that were written are taken back, since they are not said.
func (g *Guard) commit(ctx context.Context, r *Request, cases []matter) (d Decision, again bool) {
	slices.SortFunc(cases, func(a, b matter) int { return cmp.Compare(a.ev.Ensemble.UID, b.ev.Ensemble.UID) })
	for i := range cases {
		m := &cases[i]
		if m.d.Grants == nil {
			continue
		}
		if d, again, ok := g.write(ctx, m); !ok {
			g.withdraw(ctx, r, cases[:i])
			return d, again
		}
		g.metrics.grants.Inc()
	}
	for i := range cases {
		if cases[i].d.Grants != nil {
			return cases[i].d, false
		}
	}
	return cases[0].d, false
}

// write stores the grants of one yes. What may or may not have been written is a
// no: the grant, if there is one, ends by itself, and a retry is the same yes.
func (g *Guard) write(ctx context.Context, m *matter) (d Decision, again, ok bool) {
	d = Decision{Ensemble: m.d.Ensemble}
	if !timeToWrite(ctx) {
		d.Outcome, d.Message = DenyUnsure, "the decision took too long to be acted on; retry"
		return d, false, false
	}
	next := m.ev.Ensemble.DeepCopy()
	next.Status.Grants = m.d.Grants
	switch err := g.cluster.UpdateStatus(ctx, next); {
	case err == nil && ctx.Err() == nil:
		g.memory.See(next, g.now())
		return d, false, true
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		g.metrics.conflicts.Inc()
		return d, true, false
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		d.Outcome, d.Message = DenyError, "the grant could not be written: "+err.Error()
		return d, false, false
	default:
		d.Outcome, d.Message = DenyUnsure, "it is not known whether the grant was written; retry"
		return d, false, false
	}
}

// withdraw takes back what this request was granted by the cases before the one
// that failed. What cannot be taken back ends by its TTL.
func (g *Guard) withdraw(ctx context.Context, r *Request, written []matter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeToWithdraw(ctx))
	defer cancel()
	for i := range written {
		if m := &written[i]; m.d.Grants != nil {
			g.withdrawOne(ctx, r, m)
		}
	}
}

func (g *Guard) withdrawOne(ctx context.Context, r *Request, m *matter) {
	ensembles, err := g.cluster.Ensembles(ctx, r.Namespace)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not take a grant back", "ensemble", klog.KObj(m.ev.Ensemble))
		return
	}
	k := slices.IndexFunc(ensembles, func(e v1alpha1.Ensemble) bool { return e.UID == m.ev.Ensemble.UID })
	if k < 0 {
		return
	}
	e, changed := ensembles[k].DeepCopy(), false
	for _, i := range m.targets {
		left, did := Withdraw(e.Status.Grants, string(m.ev.Pods[i].UID), r.UID)
		e.Status.Grants, changed = left, changed || did
	}
	if !changed {
		return
	}
	if err := g.cluster.UpdateStatus(ctx, e); err != nil {
		klog.FromContext(ctx).Error(err, "Could not take a grant back", "ensemble", klog.KObj(e))
	}
}

// fates are what became of the granted pods. A pod that is not among the members
// may live on without its labels: it is read by name.
func (g *Guard) fates(ctx context.Context, e *v1alpha1.Ensemble, pods []Pod) map[string]Fate {
	fates := make(map[string]Fate, len(e.Status.Grants))
	for i := range e.Status.Grants {
		grant := &e.Status.Grants[i]
		fates[grant.PodUID] = g.fate(ctx, e.Namespace, grant, pods)
	}
	return fates
}

func (g *Guard) fate(ctx context.Context, namespace string, grant *v1alpha1.Grant, pods []Pod) Fate {
	for i := range pods {
		switch {
		case string(pods[i].UID) == grant.PodUID && pods[i].Terminating:
			return Terminating
		case string(pods[i].UID) == grant.PodUID:
			return Lives
		case pods[i].Name == grant.Name:
			return Gone
		}
	}
	p, err := g.cluster.Pod(ctx, types.NamespacedName{Namespace: namespace, Name: grant.Name})
	switch {
	case apierrors.IsNotFound(err):
		return Gone
	case err != nil:
		return FateUnknown
	case string(p.UID) != grant.PodUID:
		return Gone
	case p.DeletionTimestamp != nil:
		return Terminating
	default:
		return Lives
	}
}
