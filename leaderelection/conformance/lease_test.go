package conformance_test

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection/conformance"
)

type recorder struct{}

func (recorder) Eventf(runtime.Object, string, string, string, ...any) {}

// client-go's own lock, on its fake clientset, which does not look at versions or
// contexts: the suite runs in full on a real API server, in test/leaderelection.
func TestSuiteKnowsTheDefectsOfLeaseLock(t *testing.T) {
	conformance.Suite{
		Election: func(t *testing.T) func(*testing.T, string) resourcelock.Interface {
			client := fake.NewClientset()
			return func(_ *testing.T, identity string) resourcelock.Interface {
				return &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}, Client: client.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: identity, EventRecorder: recorder{}},
				}
			}
		},
		Defects: []conformance.Defect{
			conformance.ReleaseClobbers, conformance.KeepsRaw, conformance.TakesTruncated, conformance.TakesForeign, conformance.PanicsEarly,
		},
		Except: []string{"update from an old read is refused", "calls end with their context"},
	}.Run(t)
}

func ExampleSuite() {
	fmt.Println(conformance.ReleaseClobbers)
	// Output: D1: a release by another empties the record
}
