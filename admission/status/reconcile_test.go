package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Grants are ended by whoever ends them for a yes, and only where there are some. What
// is left is what the status counts as gone.
func TestRelease(t *testing.T) {
	granted := []v1alpha1.Grant{{PodUID: "pod-1", Name: "zk-1"}, {PodUID: "pod-2", Name: "zk-2"}}
	for name, c := range map[string]struct {
		grants []v1alpha1.Grant
		err    error
		asked  bool
		left   int
	}{
		"none":           {nil, nil, false, 0},
		"one has ended":  {granted, nil, true, 1},
		"nobody can say": {granted, errors.New("get: connection refused"), true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := ensemble(3, 3)
			e.Status.Grants = c.grants
			asked := false
			r := &Reconciler{Release: func(_ context.Context, key types.NamespacedName) ([]v1alpha1.Grant, error) {
				asked = key == types.NamespacedName{Namespace: "data", Name: "zk"}
				return granted[1:], c.err
			}}
			if err := r.release(t.Context(), e); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			if asked != c.asked || len(e.Status.Grants) != c.left {
				t.Errorf("got asked=%t and %d grants left, want %t and %d", asked, len(e.Status.Grants), c.asked, c.left)
			}
		})
	}
}

// Nothing is kept of an Ensemble that was made anew before anybody saw that it was gone.
func TestRhythmsForgetWhoWasReplaced(t *testing.T) {
	key := types.NamespacedName{Namespace: "data", Name: "zk"}
	var r rhythms
	for _, uid := range []types.UID{"old", "new"} {
		r.of(key, uid)
		r.back(uid, false)
	}
	if len(r.all) != 1 || len(r.plain) != 1 || r.backed("new") {
		t.Errorf("got %v and %v, want what is known of the new one", r.all, r.plain)
	}
}

// notes are those of Events.
type notes []string

func (n *notes) Eventf(_, _ runtime.Object, _, _, _, note string, args ...any) {
	*n = append(*n, fmt.Sprintf(note, args...))
}

// An Event whose note is longer than the API server takes would be lost.
func TestEventsAreNoLongerThanTaken(t *testing.T) {
	var told notes
	r := &Reconciler{Events: &told}
	e, _ := ensemble(3, 3)
	long := strings.Repeat("ü", 1000)
	r.event(e, corev1.EventTypeWarning, "QuorumLost", "Examine", "%s", "zk-0: "+long)
	r.event(e, corev1.EventTypeNormal, "BudgetCreated", "Create", "%s is short", "this")
	if n := len(told[0]); n > 1024 || n < 1000 || !utf8.ValidString(told[0]) || told[1] != "this is short" {
		t.Errorf("got %d bytes and %q", n, told[1])
	}
}
