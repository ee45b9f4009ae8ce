package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// bounded is a context for conditions on real servers: generous, since the machine
// may be busy.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := Await(t.Context(), patience, what, condition); err != nil {
		t.Fatal(err)
	}
}

func startEnsemble(t *testing.T, c ZooKeeperConfig) *Ensemble {
	t.Helper()
	e, err := StartZooKeeper(bounded(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// quietly keeps the client's chatter out of the test's output.
type quietly struct{}

func (quietly) Printf(string, ...any) {}

func dial(t *testing.T, connect string) *zk.Conn {
	t.Helper()
	conn, _, err := zk.Connect(strings.Split(connect, ","), 10*time.Second, zk.WithLogger(quietly{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// awaitWrite waits until a write through this connection succeeds.
func awaitWrite(t *testing.T, conn *zk.Conn, path string) {
	t.Helper()
	await(t, "a write to "+path, func(context.Context) error {
		_, err := conn.Create(path, nil, 0, zk.WorldACL(zk.PermAll))
		if errors.Is(err, zk.ErrNodeExists) {
			return nil
		}
		return err
	})
}

func TestEnsembleSurvivesTheLossOfAMinority(t *testing.T) {
	e := startEnsemble(t, ZooKeeperConfig{})
	ctx := bounded(t)
	conn := dial(t, e.Connect())
	awaitWrite(t, conn, "/before")
	leader, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}

	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	if leader.Running() {
		t.Error("the killed server runs")
	}
	awaitWrite(t, conn, "/after-kill")

	if err := leader.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitServing(ctx); err != nil {
		t.Fatal(err)
	}
	if mode, err := leader.Mode(ctx); err != nil || mode == "" {
		t.Errorf("mode of the server that came back: got %q, %v", mode, err)
	}
}

func TestPausedServerAnswersNobodyUntilResumed(t *testing.T) {
	e := startEnsemble(t, ZooKeeperConfig{Voters: 1})
	ctx, s := bounded(t), e.Server(1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if mode, err := s.Mode(ctx); err == nil {
		t.Errorf("mode of a paused server: got %q, want an error", mode)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitServing(ctx); err != nil {
		t.Error(err)
	}
	res, err := http.Get(s.AdminURL() + "/ruok") //nolint:noctx // a test on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("admin server: got %d %s, %v", res.StatusCode, body, err)
	}
}

func TestWipedServerHasForgotten(t *testing.T) {
	e := startEnsemble(t, ZooKeeperConfig{Voters: 1})
	ctx, s := bounded(t), e.Server(1)
	awaitWrite(t, dial(t, e.Connect()), "/known")
	if err := s.WipeData(); err == nil {
		t.Error("the data of a running server was wiped")
	}
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.WipeData(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitServing(ctx); err != nil {
		t.Fatal(err)
	}
	if exists, _, err := dial(t, e.Connect()).Exists("/known"); err != nil || exists {
		t.Errorf("/known after the data was wiped: got exists %v, %v", exists, err)
	}
}

// A client whose answers are lost, then restored, finds what it wrote: the requests
// went through.
func TestLinkLosesAnswersOnly(t *testing.T) {
	e := startEnsemble(t, ZooKeeperConfig{Voters: 1})
	links, err := LinkClient(bounded(t), e)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := links.Close(); err != nil {
			t.Error(err)
		}
	}()
	behind, direct := dial(t, links.Connect()), dial(t, e.Connect())
	awaitWrite(t, behind, "/warm")
	if err := links.All((*Link).DropAnswers); err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	go func() {
		_, err := behind.Create("/unanswered", nil, 0, zk.WorldACL(zk.PermAll))
		lost <- err
	}()
	await(t, "the unanswered write", func(context.Context) error {
		_, _, err := direct.Get("/unanswered")
		return err
	})
	if err := links.All((*Link).Cut); err != nil {
		t.Fatal(err)
	}
	if err := <-lost; err == nil {
		t.Error("a write whose answer was lost: got no error")
	}
	if err := links.All((*Link).Restore); err != nil {
		t.Fatal(err)
	}
	awaitWrite(t, behind, "/after")
}

// With its peer links cut, a server stops serving; the others go on.
func TestPeerLinksPartAServer(t *testing.T) {
	e := startEnsemble(t, ZooKeeperConfig{PeerLinks: true, SyncLimit: 4})
	ctx := bounded(t)
	leader, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range e.PeerLinks(leader.ID()) {
		if err := l.Cut(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the leader to find that it is alone", func(ctx context.Context) error {
		if mode, err := leader.Mode(ctx); err == nil {
			return fmt.Errorf("it says that it is the %s", mode)
		}
		return nil
	})
	otherLeader(t, e, leader)
	if mode, err := leader.Mode(ctx); err == nil && mode == "leader" {
		t.Error("the server that was cut off leads")
	}
	for _, l := range e.PeerLinks(leader.ID()) {
		if err := l.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.WaitServing(ctx); err != nil {
		t.Error(err)
	}
}
