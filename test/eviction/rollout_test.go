package eviction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// scaleDown takes two of five members away, whose ensemble still counts five: that
// leaves a quorum, and nothing beyond it.
func scaleDown(t *testing.T, r *rig, s *sampler) {
	s.restart()
	r.allowed(t, "scale", "statefulset", "zk", "-n", namespace, "--replicas=3")
	if got := r.granted(t); !got[admission.ScaleDown+" zk-3"] || !got[admission.ScaleDown+" zk-4"] {
		t.Errorf("got the grants %v, want one for each member that is scaled away", got)
	}
	r.awaitController(t, "two members to be gone", func(ctx context.Context) error {
		pods, err := r.plane.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) != 3 {
			err = fmt.Errorf("%d pods are there", len(pods.Items))
		}
		return err
	})
	const arithmetic = "would leave 2 of 5 voters synced (quorum 3): "
	r.refusedAll(t,
		refusal{"deleting zk-2 " + arithmetic, []string{"delete", "pod", "zk-2", "-n", namespace}},
		refusal{"scaling away zk-2 " + arithmetic, []string{"scale", "statefulset", "zk", "-n", namespace, "--replicas=2"}},
		refusal{"would leave 1 of 5 voters synced", []string{"scale", "statefulset", "zk", "-n", namespace, "--replicas=1"}},
	)
	rollingUpdate(t, r)
	r.calm(t, s, nil)
	r.verdict(t, s, "scale-down and rolling update")
}

// rollingUpdate begins while two members are scaled away: the StatefulSet controller
// finds all pods ready and goes on, and is refused by its own name. Once they are back
// it gets through.
func rollingUpdate(t *testing.T, r *rig) {
	partition := 2
	if long {
		partition = 0
	}
	r.kubectl(t, "patch", "statefulset", "zk", "-n", namespace, "-p", fmt.Sprintf(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, partition))
	r.kubectl(t, "rollout", "restart", "statefulset", "zk", "-n", namespace)
	r.awaitController(t, "the StatefulSet controller to be refused", func(context.Context) error {
		if !slices.ContainsFunc(r.judged(t), func(line string) bool {
			return strings.Contains(line, "kube-system:statefulset-controller") && strings.Contains(line, "deleting zk-2 would leave 2 of 5 voters synced")
		}) {
			return errors.New("it was not")
		}
		return nil
	})
	r.allowed(t, "scale", "statefulset", "zk", "-n", namespace, "--replicas=5")
	r.awaitController(t, "the rolling update to end", func(ctx context.Context) error {
		set, err := r.plane.Client.AppsV1().StatefulSets(namespace).Get(ctx, "zk", metav1.GetOptions{})
		if err == nil && (set.Status.ObservedGeneration < set.Generation || int(set.Status.UpdatedReplicas) < voters-partition) {
			err = fmt.Errorf("%d members are updated", set.Status.UpdatedReplicas)
		}
		return err
	})
}

// awaitController waits for what the StatefulSet controller is to do, and has it look
// again now and then: after refusals it waits for longer and longer.
func (r *rig) awaitController(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	var nudged time.Time
	r.await(t, what, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && time.Since(nudged) > 2*time.Second {
			nudged = time.Now()
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"nudged":%q}}}`, nudged)
			if _, err := r.plane.Client.AppsV1().StatefulSets(namespace).Patch(ctx, "zk", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				return err
			}
		}
		return err
	})
}

// granted are the grants that are stored now, as "Reason pod".
func (r *rig) granted(t *testing.T) map[string]bool {
	t.Helper()
	var e v1alpha1.Ensemble
	if err := r.ensembles.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: "zk"}, &e); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, g := range e.Status.Grants {
		all[g.Reason+" "+g.Name] = true
	}
	return all
}
