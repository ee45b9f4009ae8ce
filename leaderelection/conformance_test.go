package leaderelection_test

import (
	"testing"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/conformance"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// No defect is excused.
func TestLockConforms(t *testing.T) {
	conformance.Suite{
		Election: func(*testing.T) func(*testing.T, string) resourcelock.Interface {
			tree := zookeepertest.NewTree(timeout)
			return func(t *testing.T, identity string) resourcelock.Interface {
				cfg := join(t, tree, newHistory(), identity).config()
				cfg.StopsFirst = true
				l, err := leaderelection.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
		},
	}.Run(t)
}
