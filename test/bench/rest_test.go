package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/test/lab"
)

// counted is a way to ZooKeeper that counts what is asked.
type counted struct {
	*zookeeper.Client
	requests *atomic.Int64
}

// Get implements leaderelection.Conn.
func (c counted) Get(ctx context.Context, path string) ([]byte, zookeeper.Stat, error) {
	c.requests.Add(1)
	return c.Client.Get(ctx, path)
}

// Watch implements leaderelection.Conn.
func (c counted) Watch(ctx context.Context, path string) (zookeeper.Stat, bool, <-chan struct{}, error) {
	c.requests.Add(1)
	return c.Client.Watch(ctx, path)
}

// Children implements leaderelection.Conn.
func (c counted) Children(ctx context.Context, path string) ([]string, error) {
	c.requests.Add(1)
	return c.Client.Children(ctx, path)
}

// Multi implements leaderelection.Conn.
func (c counted) Multi(ctx context.Context, ops ...zookeeper.Op) ([]zookeeper.Result, error) {
	c.requests.Add(1)
	return c.Client.Multi(ctx, ops...)
}

// countedHTTP is that to an API server.
type countedHTTP struct {
	base     http.RoundTripper
	requests *atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (c countedHTTP) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return c.base.RoundTrip(r)
}

// candidate is a lock, and what was asked of its store.
type candidate struct {
	lock     resourcelock.Interface
	requests *atomic.Int64
}

func ourCandidate(b *testing.B, e *lab.Ensemble, identity string) candidate {
	b.Helper()
	c := candidate{requests: &atomic.Int64{}}
	s, err := leaderelection.Dial(b.Context(), leaderelection.SessionConfig{Tick: electionTick, Open: func(ctx context.Context) (leaderelection.Conn, error) {
		client, err := zookeeper.Dial(ctx, zookeeper.Config{Servers: e.Connect(), Timeout: leaderelection.DefaultSessionTimeout})
		if err != nil {
			return nil, err
		}
		return counted{client, c.requests}, nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	if c.lock, err = leaderelection.New(leaderelection.Config{Session: s, Namespace: "bench", Name: "rest", Identity: identity}); err != nil {
		b.Fatal(err)
	}
	return c
}

func leaseCandidate(b *testing.B, cp *lab.ControlPlane, identity string) candidate {
	b.Helper()
	c := candidate{requests: &atomic.Int64{}}
	cfg := rest.CopyConfig(cp.RESTConfig())
	cfg.Wrap(func(base http.RoundTripper) http.RoundTripper { return countedHTTP{base, c.requests} })
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	c.lock = &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: "rest"}, Client: client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	return c
}

// BenchmarkRequests is what a leader and a standby ask of their store while nothing
// happens, by client-go's elector with its default durations.
func BenchmarkRequests(b *testing.B) {
	e := electionEnsemble(b)
	cp, err := lab.StartControlPlane(b.Context(), lab.ControlPlaneConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer cp.Close()
	ours := []candidate{ourCandidate(b, e, "leader"), ourCandidate(b, e, "standby")}
	theirs := []candidate{leaseCandidate(b, cp, "leader"), leaseCandidate(b, cp, "standby")}
	for i := range ours {
		elect(b.Context(), ours[i].lock, theirs[i].lock)
	}
	const settle, over = 10 * time.Second, 30 * time.Second
	<-time.After(settle) // the standbys are in line
	counts := func() (n []int64) {
		for _, c := range append(ours, theirs...) {
			n = append(n, c.requests.Load())
		}
		return n
	}
	before := counts()
	<-time.After(over)
	after := counts()
	perMinute := func(i int) float64 { return float64(after[i]-before[i]) * float64(time.Minute) / float64(over) }
	for i, role := range []string{"leader", "standby"} {
		Record(b, fmt.Sprintf("requests to the store per minute, %s", role), perMinute(i), "requests/min", "LeaseLock", perMinute(len(ours)+i))
	}
}

// elect with each of some locks, and return when all have seen a leader.
func elect(ctx context.Context, locks ...resourcelock.Interface) {
	seen := make(chan struct{}, len(locks))
	for _, l := range locks {
		go clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
			Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			Callbacks: clientgo.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}, OnNewLeader: func(string) { seen <- struct{}{} },
			},
		})
	}
	for range locks {
		<-seen
	}
}

// idle is a lock that is held, and does nothing: what is left is the elector's.
type idle struct{ id string }

// Get implements resourcelock.Interface.
func (i idle) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{}, nil, nil
}

// Create implements resourcelock.Interface.
func (i idle) Create(context.Context, resourcelock.LeaderElectionRecord) error { return nil }

// Update implements resourcelock.Interface.
func (i idle) Update(context.Context, resourcelock.LeaderElectionRecord) error { return nil }

// RecordEvent implements resourcelock.Interface.
func (i idle) RecordEvent(string) {}

// Identity implements resourcelock.Interface.
func (i idle) Identity() string { return i.id }

// Describe implements resourcelock.Interface.
func (i idle) Describe() string { return i.id }

// idleElectors is the processor time of so many electors over a while.
func idleElectors(b *testing.B, many int, over time.Duration) time.Duration {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	for i := range many {
		elect(ctx, idle{fmt.Sprint(i)})
	}
	before := cpu(b)
	<-time.After(over)
	return cpu(b) - before
}

// cpu is the processor time of this process so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
