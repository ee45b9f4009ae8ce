package leaderelection_test

import (
	"testing"

	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/conformance"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// No defect is excused, with a Lease to seal or without.
func TestLockConforms(t *testing.T) {
	type beside = coordinationv1client.LeasesGetter
	for name, with := range map[string]func(*leaderelection.Lock, beside) resourcelock.Interface{
		"no Lease":     func(l *leaderelection.Lock, _ beside) resourcelock.Interface { return l },
		"Lease sealed": func(l *leaderelection.Lock, b beside) resourcelock.Interface { return leaderelection.NewSealed(l, b) },
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Suite{
				Election: func(*testing.T) func(*testing.T, string) resourcelock.Interface {
					tree, api := zookeepertest.NewTree(timeout), leases()
					return func(t *testing.T, identity string) resourcelock.Interface {
						cfg := join(t, tree, newHistory(), identity).config()
						cfg.StopsFirst = true
						l, err := leaderelection.New(cfg)
						if err != nil {
							t.Fatal(err)
						}
						return with(l, api)
					}
				},
			}.Run(t)
		})
	}
}
