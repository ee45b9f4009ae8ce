package leaderelection_test

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

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
	for name, with := range locks {
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
