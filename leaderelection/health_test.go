package leaderelection_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// The health check fails while nothing proves the session, and only then.
func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		p := join(t, tree, newHistory(), "a")
		l := lockOf(t, p)
		check := healthOf(t, l)
		if err := errors.Join(check(), p.session.Check()); err != nil {
			t.Errorf("healthy candidate: %v", err)
		}
		p.client().Isolate()
		pass(timeout + time.Second)
		if err := p.session.Check(); !errors.Is(err, leaderelection.ErrPastDeadline) {
			t.Errorf("session that was not proven for %v: %v, want %v", timeout, err, leaderelection.ErrPastDeadline)
		}
		if err := check(); err != nil {
			t.Errorf("candidate, within the tolerance: %v", err)
		}
		pass(20 * time.Second)
		if err := check(); !errors.Is(err, leaderelection.ErrPastDeadline) {
			t.Errorf("candidate that was not proven for %v and the tolerance: %v, want %v", timeout, err, leaderelection.ErrPastDeadline)
		}
		p.client().Heal()
		pass(2 * time.Second)
		if err := errors.Join(check(), p.session.Check()); err != nil {
			t.Errorf("candidate with a new session: %v", err)
		}
	})
}

// Work that goes on long after its term was lost makes the process unhealthy, until its
// elector says that it has stopped.
func TestWorkThatDoesNotStopIsUnhealthy(t *testing.T) {
	bubble(t, func(t *testing.T, tree *zookeepertest.Tree) {
		l := lockOf(t, join(t, tree, newHistory(), "a"))
		check := healthOf(t, l)
		acquire(t, l)
		if _, err := tree.Do(&zookeeper.Delete{Path: election1 + "/owner", Version: zookeeper.AnyVersion}); err != nil {
			t.Fatal(err)
		}
		<-l.Lost()
		pass(stopTime + 20*time.Second)
		if err := check(); err != nil {
			t.Errorf("within the tolerance: %v", err)
		}
		pass(time.Second)
		if check() == nil {
			t.Error("healthy though the work has not stopped for longer than the tolerance")
		}
		l.RecordEvent("stopped leading")
		if err := check(); err != nil {
			t.Errorf("when the work has stopped: %v", err)
		}
	})
}

func healthOf(t *testing.T, l *leaderelection.Lock) func() error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	health := leaderelection.NewHealth("elector", l, 20*time.Second)
	if got := health.Name(); got != "elector" {
		t.Errorf("name: got %q, want elector", got)
	}
	return func() error { return health.Check(req) }
}
