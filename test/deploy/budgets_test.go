package deploy

import (
	"context"
	"fmt"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const backed = `apiVersion: quorate.io/v1alpha1
kind: Ensemble
metadata: {name: backed, namespace: backed}
spec:
  selector: {matchLabels: {app: backed}}
  voters: %d
  disruption: {podDisruptionBudget: %s}
`

// backs: the status controller may make, change and take away the PodDisruptionBudget
// of an Ensemble that asks for one.
func (c *cluster) backs(t *testing.T) {
	c.run(t, "kubectl create namespace backed")
	apply := func(voters int, budget string) {
		t.Helper()
		c.run(t, "kubectl apply -f - <<'EOF'\n"+fmt.Sprintf(backed, voters, budget)+"EOF")
	}
	budgets := func(want int) {
		t.Helper()
		await(t, fmt.Sprintf("a budget that keeps %d available", want), func(ctx context.Context) error {
			list, err := c.Client.PolicyV1().PodDisruptionBudgets("backed").List(ctx, metav1.ListOptions{})
			if err == nil && least(list.Items) != want {
				err = fmt.Errorf("budgets are %v", list.Items)
			}
			return err
		})
	}
	apply(3, "Adopt")
	budgets(2)
	apply(5, "Adopt")
	budgets(3)
	apply(5, "None")
	budgets(0)
	c.run(t, "kubectl delete namespace backed")
}

// least is what the one budget keeps available, 0 without any, -1 with several.
func least(budgets []policyv1.PodDisruptionBudget) int {
	switch len(budgets) {
	case 0:
		return 0
	case 1:
		return budgets[0].Spec.MinAvailable.IntValue()
	default:
		return -1
	}
}
