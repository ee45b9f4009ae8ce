package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// ConditionGuarded says whether evictions of an Ensemble's members are judged.
const ConditionGuarded = "Guarded"

// fieldOwner of the condition, which nobody else writes.
const fieldOwner = "quorate-audit"

// Guarded is the condition of an Ensemble whose namespace is labelled or not, given
// what was found of the guard.
func Guarded(e *v1alpha1.Ensemble, labelled bool, r Report) metav1.Condition {
	c := metav1.Condition{
		Type: ConditionGuarded, Status: metav1.ConditionTrue, Reason: "Guarded",
		Message: "evictions, deletions and scale-downs of its members are judged",
	}
	weakens := slices.DeleteFunc(slices.Clone(r.Problems), func(p Problem) bool { return p.Check == SchedulerConfig })
	slices.SortFunc(weakens, func(a, b Problem) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	switch {
	case !labelled:
		c.Status, c.Reason = metav1.ConditionFalse, "NamespaceNotGuarded"
		c.Message = fmt.Sprintf("nobody judges evictions in this namespace: kubectl label namespace %s %s=enabled", e.Namespace, deploy.GuardLabel)
	case !r.Looked:
		c.Status, c.Reason = metav1.ConditionUnknown, "NotAudited"
		c.Message = "nobody has looked whether the guard is installed as it should be: see selfAudit of the configuration, and the log"
	case len(weakens) > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "GuardMisconfigured", weakens[0].String()
		if n := len(weakens) - 1; n > 0 {
			c.Message += fmt.Sprintf(" (and %d more: see the log)", n)
		}
	}
	return c
}

// WriteCondition writes the condition by server-side apply, if it is other than what
// the Ensemble says already: every write voids somebody's compare-and-swap.
func WriteCondition(ctx context.Context, to client.StatusClient, e *v1alpha1.Ensemble, want metav1.Condition) error {
	have := meta.FindStatusCondition(e.Status.Conditions, want.Type)
	if have != nil && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return nil
	}
	want.LastTransitionTime = metav1.Now()
	if have != nil && have.Status == want.Status {
		want.LastTransitionTime = have.LastTransitionTime
	}
	patch, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Ensemble",
		"metadata": map[string]any{"name": e.Name, "namespace": e.Namespace, "uid": e.UID},
		"status":   map[string]any{"conditions": []metav1.Condition{want}},
	})
	if err != nil {
		return fmt.Errorf("write condition %s: %w", want.Type, err)
	}
	err = to.Status().Patch(ctx, e.DeepCopy(), client.RawPatch(types.ApplyPatchType, patch),
		&client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{FieldManager: fieldOwner, Force: new(true)}})
	if err != nil {
		return fmt.Errorf("write condition %s of %s/%s: %w", want.Type, e.Namespace, e.Name, err)
	}
	return nil
}
