package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Release drops the grants of the Ensemble that have ended, and returns those that it
// holds then. It is for whoever reads the status meanwhile: every decision drops them for
// itself, and a refusal does so in the status too (see drop).
//
// A grant ends here as it does for a yes: by a live read, a probe of every member, and
// a write against what was read. Where somebody wrote meanwhile, nothing is dropped:
// it is for the next call.
func (g *Guard) Release(ctx context.Context, key types.NamespacedName) (kept []v1alpha1.Grant, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	ensembles, err := g.cluster.Ensembles(ctx, key.Namespace)
	if err != nil {
		return nil, fmt.Errorf("release grants: %w", err)
	}
	k := slices.IndexFunc(ensembles, func(e v1alpha1.Ensemble) bool { return e.Name == key.Name })
	if k < 0 {
		return nil, nil
	}
	e := &ensembles[k]
	ev, err := g.grantEvidence(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("release grants: %w", err)
	}
	kept = Kept(ev, g.timing)
	if len(kept) == len(e.Status.Grants) {
		return kept, nil
	}
	switch err := g.keep(ctx, e, kept); {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return e.Status.Grants, nil
	case err != nil:
		return nil, fmt.Errorf("release grants: %w", err)
	}
	return kept, nil
}

// drop writes the grants of a refusal without those that have ended. The view rests on
// them: where neither the members nor spec.voters tell how many voters there are, whoever
// was granted and is not back is taken for one. again is whether the request must be
// judged anew; each time, there is a grant less.
func (g *Guard) drop(ctx context.Context, m *matter) (again bool) {
	e := m.ev.Ensemble
	kept := Kept(m.ev, g.timing)
	if len(kept) == len(e.Status.Grants) || !timeToWrite(ctx) {
		return false
	}
	err := g.keep(ctx, e, kept)
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return true
	}
	klog.FromContext(ctx).Error(err, "Could not drop the grants that have ended", "ensemble", klog.KObj(e))
	return false
}

// keep writes these grants of the Ensemble, and none of the others.
func (g *Guard) keep(ctx context.Context, e *v1alpha1.Ensemble, kept []v1alpha1.Grant) error {
	next := e.DeepCopy()
	next.Status.Grants = kept
	if err := g.cluster.UpdateStatus(ctx, next); err != nil {
		return err
	}
	g.memory.See(next, g.now())
	return nil
}

// grantEvidence is what tells which grants of the Ensemble have ended: nothing is
// looked at where there are none.
func (g *Guard) grantEvidence(ctx context.Context, e *v1alpha1.Ensemble) (Evidence, error) {
	ev := Evidence{Ensemble: e, Ages: g.memory.See(e, g.now())}
	if len(e.Status.Grants) == 0 {
		return ev, nil
	}
	s, err := selectors(e)
	if err != nil {
		return ev, fmt.Errorf("read selector: %w", err)
	}
	pods, err := g.members(ctx, e, s)
	if err != nil {
		return ev, err
	}
	for i := range pods {
		ev.Pods = append(ev.Pods, s.pod(&pods[i]))
	}
	if !g.look(ctx, &ev, pods) {
		return ev, errors.New("no time was left to ask the members")
	}
	return ev, nil
}
