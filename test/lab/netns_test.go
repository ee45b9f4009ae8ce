package lab

import (
	"context"
	"errors"
	"os"
	"testing"
)

func startNetwork(t *testing.T) (*Network, *Ensemble) {
	t.Helper()
	n, err := NewNetwork(bounded(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, startEnsemble(t, ZooKeeperConfig{Members: n.Members(), SyncLimit: 4})
}

// otherLeader waits until some other server leads.
func otherLeader(t *testing.T, e *Ensemble, than *Server) {
	t.Helper()
	await(t, "another leader", func(ctx context.Context) error {
		for _, s := range e.Servers() {
			if s == than {
				continue
			}
			if mode, err := s.Mode(ctx); err == nil && mode == "leader" {
				return nil
			}
		}
		return errors.New("no other server says that it leads")
	})
}

// A server that is parted from its peers alone is still heard by clients, and
// stops serving.
func TestNetworkPartsAServerFromItsPeersAlone(t *testing.T) {
	n, e := startNetwork(t)
	ctx := bounded(t)
	leader, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.PartPeers(ctx, leader.ID()); err != nil {
		t.Fatal(err)
	}
	otherLeader(t, e, leader)
	if answer, err := leader.FourLetters(ctx, "ruok"); err != nil || answer != "imok" {
		t.Errorf("the parted server, asked by a client: got %q, %v", answer, err)
	}
	if err := n.JoinPeers(ctx, leader.ID()); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitServing(ctx); err != nil {
		t.Error(err)
	}
}

// A leader that its followers no longer hear is replaced, although it hears them.
func TestNetworkMutesOneDirection(t *testing.T) {
	n, e := startNetwork(t)
	ctx := bounded(t)
	leader, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	each := func(do func(context.Context, int, int) error) {
		for _, s := range e.Servers() {
			if s == leader {
				continue
			}
			if err := do(ctx, leader.ID(), s.ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
	each(n.Mute)
	otherLeader(t, e, leader)
	each(n.Unmute)
	if err := e.WaitServing(ctx); err != nil {
		t.Error(err)
	}
}

// What a killed lab has left behind goes when the next one comes; what a living one
// uses stays.
func TestDeadNetworksAreSwept(t *testing.T) {
	ctx := bounded(t)
	dead, err := NewNetwork(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.subnet.Close(); err != nil { // as the kernel does after SIGKILL
		t.Fatal(err)
	}
	living, err := NewNetwork(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := living.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := sweepNetworks(ctx); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{dead.Namespace(1): false, dead.Namespace(2): false, living.Namespace(1): true} {
		_, err := os.Stat("/run/netns/" + name)
		if got := err == nil; got != want {
			t.Errorf("namespace %s is there: %v, want %v", name, got, want)
		}
	}
}
