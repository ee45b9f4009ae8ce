package audit

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Unknown is not guarded: nobody is told that evictions are judged by whom nobody
// looked at.
func TestGuarded(t *testing.T) {
	ignored := problem(FailurePolicy, "ValidatingWebhookConfiguration/quorate-guard", "failurePolicy is Ignore")
	elsewhere := problem(SchedulerConfig, "KubeSchedulerConfiguration scheduler.yaml", "ignorable is true")
	tests := map[string]struct {
		labelled bool
		report   Report
		want     metav1.ConditionStatus
		reason   string
		says     string
	}{
		"as it should be":     {true, Report{Looked: true}, metav1.ConditionTrue, "Guarded", "are judged"},
		"nobody looked":       {true, Report{}, metav1.ConditionUnknown, "NotAudited", "nobody has looked"},
		"namespace unlabeled": {false, Report{Looked: true}, metav1.ConditionFalse, "NamespaceNotGuarded", "kubectl label namespace data quorate.io/guard=enabled"},
		"unlabeled, unseen":   {false, Report{}, metav1.ConditionFalse, "NamespaceNotGuarded", "nobody judges"},
		"weakened":            {true, Report{Looked: true, Problems: []Problem{ignored}}, metav1.ConditionFalse, "GuardMisconfigured", "failurePolicy is Ignore"},
		"the scheduler's":     {true, Report{Looked: true, Problems: []Problem{elsewhere}}, metav1.ConditionTrue, "Guarded", "are judged"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "zk"}}
			got := Guarded(e, tc.labelled, tc.report)
			if got.Status != tc.want || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("got %s/%s: %s, want %s/%s: %q in it", got.Status, got.Reason, got.Message, tc.want, tc.reason, tc.says)
			}
		})
	}
}
