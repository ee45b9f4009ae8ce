package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Release drops the grants of the Ensemble that have ended, and returns those that it
// holds then. It is for whoever reads the status meanwhile: every decision drops them for
// itself. One number alone rests on it: where neither the members nor spec.voters tell how
// many voters there are, whoever was granted and is not back is taken for one of them.
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
	next := e.DeepCopy()
	next.Status.Grants = kept
	switch err := g.cluster.UpdateStatus(ctx, next); {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return e.Status.Grants, nil
	case err != nil:
		return nil, fmt.Errorf("release grants: %w", err)
	}
	g.memory.See(next, g.now())
	return kept, nil
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
