package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/test/lab"
)

// dead is a lock whose process has crashed: nothing that it is asked reaches the
// store any more.
type dead struct {
	resourcelock.Interface
	crashed context.Context
}

// Get implements resourcelock.Interface.
func (d dead) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if err := d.crashed.Err(); err != nil {
		return nil, nil, err
	}
	return d.Interface.Get(ctx)
}

// Create implements resourcelock.Interface.
func (d dead) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if err := d.crashed.Err(); err != nil {
		return err
	}
	return d.Interface.Create(ctx, r)
}

// Update implements resourcelock.Interface.
func (d dead) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if err := d.crashed.Err(); err != nil {
		return err
	}
	return d.Interface.Update(ctx, r)
}

// BenchmarkTakeOver is how soon another leads after a crash: ours by Run, with a
// session of 8 s, beside LeaseLock, both with client-go's default durations.
func BenchmarkTakeOver(b *testing.B) {
	const n, session = 5, 8 * time.Second
	e := electionEnsemble(b)
	cp, err := lab.StartControlPlane(b.Context(), lab.ControlPlaneConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer cp.Close()
	results, theirs := make(chan float64, n), make(chan float64, n)
	for i := range n {
		go func() { results <- takeOver(b, e, session, fmt.Sprint("crash", i)) }()
		go func() {
			theirs <- takeOverOfLease(b, func(name string) resourcelock.Interface {
				return &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("crash", i)}, Client: cp.Client.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: name},
				}
			})
		}()
	}
	var ours, lease []float64
	for range n {
		ours, lease = append(ours, <-results), append(lease, <-theirs)
	}
	Record(b, "crash take-over p50, session of 8 s and tick of 2 s", quantile(ours, 50), "ms", "LeaseLock", quantile(lease, 50))
	Record(b, "crash take-over max, session of 8 s and tick of 2 s", slices.Max(ours), "ms", "its bound", float64(session+electionTick*3/2)/float64(time.Millisecond)+200)
}

// takeOver of a leader whose way to every server is cut.
func takeOver(b *testing.B, e *lab.Ensemble, timeout time.Duration, name string) float64 {
	links, err := lab.LinkClient(b.Context(), e)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer links.Close()
	begun := make(chan string, 2)
	run := func(ctx context.Context, servers, identity string) <-chan error {
		done := make(chan error, 1)
		go func() {
			s, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{Servers: servers, Timeout: timeout, Tick: electionTick})
			for err != nil && ctx.Err() == nil { // a short session has little time to be opened
				s, err = leaderelection.Dial(ctx, leaderelection.SessionConfig{Servers: servers, Timeout: timeout, Tick: electionTick})
			}
			if err != nil {
				done <- err
				return
			}
			defer s.Close(context.WithoutCancel(ctx))
			done <- leaderelection.Run(ctx, leaderelection.Config{Session: s, Namespace: "bench", Name: name, Identity: identity},
				leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
					begun <- identity
					<-ctx.Done()
				}})
		}()
		return done
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	run(ctx, links.Connect(), "first")
	<-begun
	second := run(ctx, e.Connect(), "second")
	<-time.After(3 * time.Second)
	crashed := time.Now()
	if err := links.All((*lab.Link).Drop); err != nil {
		b.Error(err)
	}
	select {
	case <-begun:
	case err := <-second:
		b.Error(err)
	}
	return float64(time.Since(crashed)) / float64(time.Millisecond)
}

func takeOverOfLease(b *testing.B, lock func(identity string) resourcelock.Interface) float64 {
	crashed, crash := context.WithCancel(b.Context())
	defer crash()
	begun := make(chan struct{}, 2)
	run := func(l resourcelock.Interface) {
		clientgo.RunOrDie(b.Context(), clientgo.LeaderElectionConfig{
			Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			Callbacks: clientgo.LeaderCallbacks{OnStartedLeading: func(context.Context) { begun <- struct{}{} }, OnStoppedLeading: func() {}},
		})
	}
	go run(dead{lock("first"), crashed})
	<-begun
	go run(lock("second"))
	<-time.After(3 * time.Second)
	crash()
	at := time.Now()
	<-begun
	return float64(time.Since(at)) / float64(time.Millisecond)
}

// BenchmarkTenThousand locks in one process, acquired a hundred at a time: the proofs
// of the session wait behind what else is asked through it.
func BenchmarkTenThousand(b *testing.B) {
	const many, rest = 10_000, 20 * time.Second
	e := electionEnsemble(b)
	s := electionSession(b, e)
	heap, goroutines := footprint()
	begin := time.Now()
	held, under := make(chan error, many), make(chan struct{}, 100)
	locks := make([]*leaderelection.Lock, many)
	for i := range many {
		under <- struct{}{}
		go func() {
			l, err := leaderelection.New(leaderelection.Config{Session: s, Namespace: "many", Name: fmt.Sprint("x", i), Identity: "a"})
			if err != nil {
				held <- err
				return
			}
			locks[i] = l
			go clientgo.RunOrDie(b.Context(), clientgo.LeaderElectionConfig{
				Lock: l, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
				Callbacks: clientgo.LeaderCallbacks{OnStartedLeading: func(context.Context) {
					held <- nil
					<-under
				}, OnStoppedLeading: func() {}},
			})
		}()
	}
	for range many {
		if err := <-held; err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(begin)
	writes := writesPerMinute(b, e, rest)
	heapAfter, goroutinesAfter := footprint()
	if lost := len(slices.DeleteFunc(locks, func(l *leaderelection.Lock) bool { return l.Term() != nil })); lost > 0 {
		b.Fatalf("%d of the locks were lost before they were measured", lost)
	}
	Record(b, "10,000 locks in one process, time to acquire all", took.Seconds(), "s", "LeaseLock (10,000 x 2 requests, by client-go's default 20 a second)", 2*many/20)
	Record(b, "10,000 locks in one process, quorum writes per minute at rest", writes, "writes/min", "LeaseLock (30 each, by its retry period)", 30*many)
	Record(b, "10,000 locks in one process, heap per lock with its elector", float64(heapAfter-heap)/many/1024, "KiB", "a ZooKeeper connection of its own", 132)
	Record(b, "10,000 locks in one process, goroutines per lock with its elector", float64(goroutinesAfter-goroutines)/many, "goroutines", "a ZooKeeper connection of its own", 3)
}
