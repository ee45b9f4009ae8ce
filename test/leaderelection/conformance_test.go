package leaderelection

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	lock "github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/conformance"
)

// Ours, on real ZooKeeper: no defect is excused. All candidates go to one server: what
// one of them has written another reads at once there, as the suite expects it, and
// maybe later elsewhere.
func TestLockConforms(t *testing.T) {
	together(t)
	e, n := ensembles.get(t), 0
	conformance.Suite{
		Election: func(t *testing.T) func(*testing.T, string) resourcelock.Interface {
			n++
			name := fmt.Sprintf("e%d", n)
			return func(t *testing.T, identity string) resourcelock.Interface {
				l, err := lock.New(lock.Config{
					Session: session(t, e.Servers()[0].Addr()), Namespace: "lab", Name: name, Identity: identity, StopsFirst: true, StopTime: stopTime,
					RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
				})
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
		},
	}.Run(t)
}

func session(t *testing.T, servers string) *lock.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := lock.Dial(ctx, lock.SessionConfig{Servers: servers, Timeout: time.Minute, Tick: tick}) // the server grants 20 ticks
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client-go's own, on a real API server, and what it is excused for.
func TestLeaseLockConforms(t *testing.T) {
	together(t)
	cp, n := planes.get(t), 0
	conformance.Suite{
		Election: func(*testing.T) func(*testing.T, string) resourcelock.Interface {
			n++
			name := fmt.Sprintf("e%d", n)
			return func(_ *testing.T, identity string) resourcelock.Interface {
				return &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Client: cp.Client.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: identity, EventRecorder: deaf{}},
				}
			}
		},
		Defects: []conformance.Defect{
			conformance.ReleaseClobbers, conformance.KeepsRaw, conformance.TakesForeign, conformance.PanicsEarly,
		},
	}.Run(t)
}

type deaf struct{}

func (deaf) Eventf(runtime.Object, string, string, string, ...any) {}
