package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
)

// ensembles are lock stores by address. An address may be another name of a store.
type ensembles struct {
	mu     sync.Mutex // guards below
	stores map[string]*ensemble
}

type ensemble struct {
	id string

	mu      sync.Mutex // guards below
	record  *resourcelock.LeaderElectionRecord
	version int
}

func (e *ensembles) at(address string) *ensemble {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stores[address]
}

func (e *ensembles) set(address string, to *ensemble) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stores[address] = to
}

// session is one replica's way to one ensemble.
type session struct {
	e        *ensemble
	identity string
	version  int
}

var znodes = schema.GroupResource{Resource: "znodes"}

func (s *session) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.record == nil {
		return nil, nil, apierrors.NewNotFound(znodes, "lock")
	}
	s.version = s.e.version
	record := *s.e.record
	raw, err := json.Marshal(record)
	return &record, fmt.Appendf(raw, "%d", s.version), err
}

func (s *session) put(r resourcelock.LeaderElectionRecord) error {
	s.e.version++
	s.e.record, s.version = &r, s.e.version
	return nil
}

func (s *session) Create(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.record != nil {
		return apierrors.NewAlreadyExists(znodes, "lock")
	}
	return s.put(r)
}

func (s *session) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.version != s.version {
		return apierrors.NewConflict(znodes, "lock", errors.New("moved on"))
	}
	return s.put(r)
}

func (s *session) RecordEvent(string) {}
func (s *session) Identity() string   { return s.identity }
func (s *session) Describe() string   { return s.e.id }

// store is a Store whose identity is the ensemble's.
type store struct {
	*Lease
	id string
}

func (s store) Identity() string { return s.id }

// candidate is a replica: what it reads of the ConfigMap, and whether it leads.
type candidate struct {
	changes chan config.LeaderElection
	leads   atomic.Bool
	stop    func()
}

// board sees who leads.
type board struct {
	mu      sync.Mutex // guards below
	leaders map[string]bool
	terms   int
	clash   string
}

func (b *board) work(name string, leads *atomic.Bool) func(context.Context) {
	return func(ctx context.Context) {
		b.mu.Lock()
		b.leaders[name] = true
		b.terms++
		if len(b.leaders) > 1 && b.clash == "" {
			b.clash = fmt.Sprint(b.leaders)
		}
		b.mu.Unlock()
		leads.Store(true)
		<-ctx.Done()
		leads.Store(false)
		b.mu.Lock()
		delete(b.leaders, name)
		b.mu.Unlock()
	}
}

func at(address string) config.LeaderElection {
	c := config.Default().StatusController.LeaderElection
	c.LeaseDuration.Duration, c.RenewDeadline.Duration, c.RetryPeriod.Duration = 2*time.Second, time.Second, 20*time.Millisecond
	c.ResourceLock, c.ZooKeeper.Servers = "zookeeper", address
	return c
}

func start(t *testing.T, client kubernetes.Interface, world *ensembles, b *board, name string) *candidate {
	t.Helper()
	c := &candidate{changes: make(chan config.LeaderElection)}
	e := &Elector{
		Client: client, Namespace: "quorate-system", Identity: name, Retry: 10 * time.Millisecond,
		Open: func(_ context.Context, c config.LeaderElection) (Store, error) {
			e := world.at(c.ZooKeeper.Servers)
			if e == nil {
				return nil, fmt.Errorf("dial %s: refused", c.ZooKeeper.Servers)
			}
			return store{NewLease(&session{e: e, identity: name}), e.id}, nil
		},
		Work: b.work(name, &c.leads),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx, at("old:2181"), c.changes)
	}()
	c.stop = func() { cancel(); <-done }
	t.Cleanup(c.stop)
	return c
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func pointsTo(t *testing.T, client kubernetes.Interface, want string) {
	t.Helper()
	await(t, "the pointer to name "+want, func() bool {
		lease, err := client.CoordinationV1().Leases("quorate-system").Get(t.Context(), "quorate-status-store", metav1.GetOptions{})
		return err == nil && lease.Annotations[annotationStore] == want
	})
}

// The address moves to another ensemble, and replicas hear of it one after the other,
// in any order: one leads at any time, in the end on the new ensemble.
func TestMoveMakesNoTwoLeaders(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			client := fake.NewClientset()
			world := &ensembles{stores: map[string]*ensemble{"old:2181": {id: "A"}, "new:2181": {id: "B"}}}
			b := &board{leaders: map[string]bool{}}
			candidates := make([]*candidate, 3)
			for i := range candidates {
				candidates[i] = start(t, client, world, b, fmt.Sprintf("replica-%d", i))
			}
			leads := func() bool {
				for _, c := range candidates {
					if c.leads.Load() {
						return true
					}
				}
				return false
			}
			await(t, "a leader", leads)
			pointsTo(t, client, "A")
			for _, i := range order {
				candidates[i].changes <- at("new:2181")
				await(t, "a leader during the move", leads)
			}
			pointsTo(t, client, "B")
			await(t, "a leader after the move", leads)
			if b.clash != "" {
				t.Errorf("two leaders: %s", b.clash)
			}
			if b.terms < 2 {
				t.Errorf("terms: got %d, want the election to have moved", b.terms)
			}
		})
	}
}

// A replica that never hears of the move does not lead on the old ensemble while
// another one leads on the new.
func TestReplicaLeftBehindDoesNotLead(t *testing.T) {
	client := fake.NewClientset()
	world := &ensembles{stores: map[string]*ensemble{"old:2181": {id: "A"}, "new:2181": {id: "B"}}}
	b := &board{leaders: map[string]bool{}}
	mover := start(t, client, world, b, "mover")
	await(t, "the mover to lead", mover.leads.Load)
	behind := start(t, client, world, b, "behind")
	mover.changes <- at("new:2181")
	// It wins the free lock of the old ensemble, or the mover does: whoever leads, leads alone.
	await(t, "the lock of the old ensemble to be won by the one left behind, and the move to be over", func() bool {
		e := world.at("old:2181")
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.record != nil && e.record.HolderIdentity == "behind" && (mover.leads.Load() || behind.leads.Load())
	})
	if !mover.leads.Load() && !behind.leads.Load() {
		t.Error("nobody leads")
	}
	behind.changes <- at("new:2181")
	pointsTo(t, client, "B")
	if mover.stop(); b.clash != "" {
		t.Errorf("two leaders: %s", b.clash)
	}
	await(t, "the other one to lead on the new ensemble", behind.leads.Load)
}

// The same ensemble under another name is no move: the old name need not answer.
func TestSameEnsembleUnderAnotherName(t *testing.T) {
	client := fake.NewClientset()
	a := &ensemble{id: "A"}
	world := &ensembles{stores: map[string]*ensemble{"old:2181": a}}
	b := &board{leaders: map[string]bool{}}
	c := start(t, client, world, b, "replica")
	await(t, "a leader", c.leads.Load)
	world.set("old:2181", nil)
	world.set("new:2181", a)
	c.changes <- at("new:2181")
	await(t, "a leader under the new name", func() bool {
		lease, err := client.CoordinationV1().Leases("quorate-system").Get(t.Context(), "quorate-status-store", metav1.GetOptions{})
		return err == nil && lease.Annotations[annotationAddress] == "new:2181" && c.leads.Load()
	})
	if b.clash != "" {
		t.Errorf("two leaders: %s", b.clash)
	}
}

// From an ensemble that does not answer nobody can move, until somebody who knows
// that it is gone says so.
func TestMoveFromAnEnsembleThatIsGone(t *testing.T) {
	client := fake.NewClientset()
	world := &ensembles{stores: map[string]*ensemble{"old:2181": {id: "A"}, "new:2181": {id: "B"}}}
	b := &board{leaders: map[string]bool{}}
	c := start(t, client, world, b, "replica")
	await(t, "a leader", c.leads.Load)
	world.set("old:2181", nil)
	c.changes <- at("new:2181")
	await(t, "the lock of the new ensemble", func() bool {
		e := world.at("new:2181")
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.record != nil && e.record.HolderIdentity == "replica"
	})
	if c.leads.Load() {
		t.Error("leads on the new ensemble, though nobody knows who leads on the old one")
	}
	e := &Elector{Client: client, Namespace: "quorate-system", Open: func(_ context.Context, c config.LeaderElection) (Store, error) {
		return nil, errors.New("refused")
	}}
	p := pointer{client.CoordinationV1().Leases("quorate-system"), "quorate-status-store"}
	err := e.move(t.Context(), p, place{"B", "new:2181"}, at("new:2181"))
	if want := "delete the Lease quorate-system/quorate-status-store"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error: got %v, want %q in it", err, want)
	}
	if err := client.CoordinationV1().Leases("quorate-system").Delete(t.Context(), "quorate-status-store", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "a leader once the pointer is deleted", c.leads.Load)
}
