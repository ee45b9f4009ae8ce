package leaderelection

import (
	"context"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	lock "github.com/quorate/quorate/leaderelection"
)

// managed is a manager of controller-runtime, elected by our lock.
type managed struct {
	stop context.CancelFunc
	end  chan error // of its Start
}

func manage(t *testing.T, kubeconfig *rest.Config, s *lock.Session, h *history, name string) *managed {
	t.Helper()
	l, err := lock.New(lock.Config{
		Session: s, Namespace: "lab", Name: "managed", Identity: name, StopsFirst: true, StopTime: stopTime,
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	lease, renew, retry := 3*time.Second, 2*time.Second, 500*time.Millisecond
	m, err := ctrl.NewManager(kubeconfig, ctrl.Options{
		LeaderElection: true, LeaderElectionID: "managed", LeaderElectionResourceLockInterface: l, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
		Metrics: metricsserver.Options{BindAddress: "0"}, Logger: klog.FromContext(t.Context()),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		h.start(name, l.Term().Token())
		<-ctx.Done()
		idle(t, stopTime/2) // the work takes its time to stop
		h.stop(name)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	g := &managed{stop: stop, end: make(chan error, 1)}
	go func() { g.end <- m.Start(ctx) }()
	return g
}

// ended is how its Start returned.
func (g *managed) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-g.end:
		return err
	case <-time.After(patience):
		t.Fatal("the manager goes on")
		return nil
	}
}

// Two managers of controller-runtime, which tells its work to stop before its elector:
// the lock is released when the work has stopped, and no later. Who loses the lock ends.
func TestControllerRuntimeElects(t *testing.T) {
	together(t)
	kubeconfig, servers, h := planes.get(t).RESTConfig(), ensembles.get(t).Connect(), newHistory()
	a := manage(t, kubeconfig, session(t, servers), h, "a")
	awaitLeader(t, h, "a")
	admin := session(t, servers)
	b := manage(t, kubeconfig, session(t, servers), h, "b")
	await(t, "b stands by", func() bool {
		e, err := admin.Election(t.Context(), "lab", "managed")
		return err == nil && len(e.Standbys) == 1
	})
	a.stop()
	awaitLeader(t, h, "b")
	h.check(t)
	if err := a.ended(t); err != nil {
		t.Errorf("manager that was stopped: got %v, want no error", err)
	}
	if err := admin.Resign(t.Context(), "lab", "managed"); err != nil {
		t.Fatal(err)
	}
	if err := b.ended(t); err == nil {
		t.Error("manager that lost the lock: got no error")
	}
}
