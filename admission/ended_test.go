package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// A member that was let go, and never comes back since its StatefulSet was scaled down
// meanwhile, counts as a voter for as long as its grant is there. No status controller
// runs: the next request drops it, unless it is a dry run, and only once it has ended.
func TestEndedGrantDeniesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := newStage(t, 3, nil), t.Context()
		e := s.ensembles["zk"]
		e.Spec.System = v1alpha1.Generic
		e.Status.Grants = []v1alpha1.Grant{{PodUID: "old", Name: "zk-3", Reason: Eviction, RequestUIDs: []string{"r"}, Since: metav1.Now()}}
		s.mutant.pods = func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		three := func(context.Context, *v1alpha1.Ensemble, []corev1.Pod) (int, error) { return 3, nil }
		g, err := New(Config{Cluster: s.mutant, Examiner: &probe.Examiner{Replicas: three}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			after  time.Duration
			dry    bool
			want   Outcome
			writes int
		}{
			{0, false, DenyUnknown, 0},
			{80 * time.Second, false, DenyUnknown, 0},
			{15 * time.Second, true, DenyUnknown, 0},
			{0, false, AllowSafe, 2},
		} {
			s.pass(ctx, c.after)
			_, before := s.stored()
			d := g.Judge(ctx, Request{UID: "r1", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: s.first().uid, DryRun: c.dry})
			if _, now := s.stored(); d.Outcome != c.want || now-before != c.writes {
				t.Errorf("dry run %t: got %s (%s) and %d writes, want %s and %d", c.dry, d.Outcome, d.Message, now-before, c.want, c.writes)
			}
		}
		if got, _ := s.stored(); len(got) != 1 || got[0].Name != "zk-0" {
			t.Errorf("got the grants %v, want that of zk-0", got)
		}
		s.end()
	})
}
