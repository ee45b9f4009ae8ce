package leaderelection_test

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// events as a recorder of client-go is given them.
type events []string

func (e *events) Eventf(object runtime.Object, kind, reason, format string, args ...any) {
	*e = append(*e, fmt.Sprintf("%s %s %s %s", object.GetObjectKind().GroupVersionKind().Kind, kind, reason, fmt.Sprintf(format, args...)))
}

// What an elector says is recorded, as a LeaseLock records it, also where a Lease is
// held or sealed beside; and that it has stopped ends what it held.
func TestEventsAreRecorded(t *testing.T) {
	type beside = coordinationv1client.LeasesGetter
	for name, with := range map[string]func(*leaderelection.Lock, beside) resourcelock.Interface{
		"no Lease":     func(l *leaderelection.Lock, _ beside) resourcelock.Interface { return l },
		"Lease sealed": func(l *leaderelection.Lock, b beside) resourcelock.Interface { return leaderelection.NewSealed(l, b) },
		"Lease held":   func(l *leaderelection.Lock, b beside) resourcelock.Interface { return leaderelection.NewBridge(l, b) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
				var got events
				cfg := join(t, tree, newHistory(), "a").config()
				cfg.Events = &got
				l, err := leaderelection.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				lock := with(l, leases())
				lock.RecordEvent("became leader")
				lock.RecordEvent("stopped leading")
				want := events{
					"Lease Normal LeaderElection " + l.Identity() + " became leader",
					"Lease Normal LeaderElection " + l.Identity() + " stopped leading",
				}
				if !slices.Equal(got, want) {
					t.Errorf("events: got %q, want %q", got, want)
				}
			})
		})
	}
}
