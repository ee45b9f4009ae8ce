package status

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// managedBy marks what we made.
const managedBy = "app.kubernetes.io/managed-by"

// MinAvailable is how many of the selected pods must stay up, so that a quorum of the
// larger of the live and the desired voters does, whichever pods go: a
// PodDisruptionBudget cannot tell voters from others, so that those are added.
func MinAvailable(v *probe.View, desired int) int {
	voters, need := desired, desired/2+1
	if v.Known {
		all := v.Voters()
		if live := all.Len() - v.System.Spare(all); live > need {
			voters, need = all.Len(), live
		}
	}
	return need + max(0, len(v.Members)-voters)
}

// Budget is the PodDisruptionBudget that backs the Ensemble.
func Budget(e *v1alpha1.Ensemble, minAvailable int) *policyv1.PodDisruptionBudget {
	selector := &metav1.LabelSelector{}
	for k, v := range e.Spec.Selector.MatchLabels {
		metav1.AddLabelToSelector(selector, k, string(v))
	}
	for _, x := range e.Spec.Selector.MatchExpressions {
		values := make([]string, len(x.Values))
		for i, v := range x.Values {
			values[i] = string(v)
		}
		selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: x.Key, Operator: x.Operator, Values: values})
	}
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, Name: budgetName(e),
			Labels: map[string]string{managedBy: "quorate"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Ensemble", Name: e.Name, UID: e.UID, Controller: new(true),
			}},
		},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable:               new(intstr.FromInt32(int32(minAvailable))),
			Selector:                   selector,
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

func budgetName(e *v1alpha1.Ensemble) string { return "quorate-" + e.Name }

// rival is a budget of somebody else for one of the pods, or nil; own is ours.
func rival(e *v1alpha1.Ensemble, pods []corev1.Pod, budgets []policyv1.PodDisruptionBudget) (own, other *policyv1.PodDisruptionBudget) {
	for i := range budgets {
		b := &budgets[i]
		if metav1.IsControlledBy(b, e) {
			own = b
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			continue
		}
		for j := range pods {
			if other == nil && selector.Matches(labels.Set(pods[j].Labels)) {
				other = b
			}
		}
	}
	return own, other
}

// keepBudget makes the PodDisruptionBudget as the Ensemble asks for it.
func (r *Reconciler) keepBudget(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod, v *probe.View) error {
	adopt := e.Spec.Disruption.PodDisruptionBudget == "Adopt"
	if !adopt && !r.rhythms.backed(e.UID) {
		return nil // nothing asked for, and nothing left over since we look
	}
	desired := r.desired(ctx, e, pods)
	var list policyv1.PodDisruptionBudgetList
	if err := r.Reader.List(ctx, &list, client.InNamespace(e.Namespace)); err != nil {
		return fmt.Errorf("list poddisruptionbudgets: %w", err)
	}
	own, other := rival(e, pods, list.Items)
	r.rhythms.back(e.UID, adopt)
	switch {
	case own != nil && (!adopt || other != nil):
		if other != nil {
			r.event(e, corev1.EventTypeNormal, "BudgetWithdrawn", "Withdraw", "PodDisruptionBudget %s is for the same pods", other.Name)
		}
		return client.IgnoreNotFound(r.Client.Delete(ctx, own, client.Preconditions{UID: &own.UID}))
	case !adopt, other != nil, desired == 0 && !v.Known:
		return nil
	}
	return r.writeBudget(ctx, e, own, Budget(e, r.floor(own, v, desired)))
}

// floor is minAvailable; while nothing is known it is not lowered.
func (r *Reconciler) floor(own *policyv1.PodDisruptionBudget, v *probe.View, desired int) int {
	least := MinAvailable(v, desired)
	if own != nil && own.Spec.MinAvailable != nil && (!v.Known || v.Without(0, 0) != quorum.Safe) {
		least = max(least, own.Spec.MinAvailable.IntValue())
	}
	return least
}

func (r *Reconciler) writeBudget(ctx context.Context, e *v1alpha1.Ensemble, own, want *policyv1.PodDisruptionBudget) error {
	if own == nil {
		err := r.Client.Create(ctx, want)
		if err == nil {
			r.event(e, corev1.EventTypeNormal, "BudgetCreated", "Create", "PodDisruptionBudget %s keeps %s available while nobody guards", want.Name, want.Spec.MinAvailable.String())
		}
		if apierrors.IsAlreadyExists(err) {
			return nil // somebody else's, for other pods
		}
		return err
	}
	if sameBudget(own, want) {
		return nil
	}
	next := own.DeepCopy()
	next.Spec = want.Spec
	return r.Client.Update(ctx, next)
}
