package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// setting is a published one, of docs/leader-election.md.
type setting struct {
	name                string
	bare                bool
	lease, renew, retry time.Duration
	stop, tick, timeout time.Duration
}

// bound of a take-over, with time for a notification and a write.
func (s setting) bound() time.Duration { return s.timeout + s.tick*3/2 + 200*time.Millisecond }

const ms = time.Millisecond

var settings = []setting{
	{"bare LeaderElector, 15/10/2 s", true, 15 * time.Second, 10 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 22 * time.Second},
	{"bare LeaderElector, 3/2/0.5 s", true, 3 * time.Second, 2 * time.Second, 500 * ms, time.Second, 2 * time.Second, 11 * time.Second},
	{"Run, session of 8 s", false, 15 * time.Second, 10 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 8 * time.Second},
	{"Run, session of 2.5 s", false, 3 * time.Second, 2 * time.Second, 500 * ms, time.Second, 500 * ms, 2500 * ms},
	{"quorate elect, its defaults", false, 3 * time.Second, 2 * time.Second, 500 * ms, 2 * time.Second, 2 * time.Second, 10 * time.Second},
}

// BenchmarkTakeOver is how soon another leads after a crash: ours with each published
// setting, beside its bound; and beside LeaseLock with client-go's default durations, and
// Curator's LeaderLatch with the same session.
func BenchmarkTakeOver(b *testing.B) {
	const n = 3
	ensembles := map[time.Duration]*lab.Ensemble{}
	for _, tick := range []time.Duration{electionTick, 500 * ms} {
		ensembles[tick] = ensembleOf(b, tick)
	}
	cp, err := lab.StartControlPlane(b.Context(), lab.ControlPlaneConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer cp.Close()
	ours, lease, latch := make(map[string][]float64), []float64{}, []float64{}
	var mu sync.Mutex // guards those
	var runs sync.WaitGroup
	for i := range n {
		for _, s := range settings {
			runs.Go(func() {
				took := takeOver(b, ensembles[s.tick], s, fmt.Sprintf("crash%d-%v", i, s.timeout))
				mu.Lock()
				defer mu.Unlock()
				ours[s.name] = append(ours[s.name], took)
			})
		}
		runs.Go(func() {
			took := takeOverOfLease(b, func(name string) resourcelock.Interface {
				return &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("crash", i)}, Client: cp.Client.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: name},
				}
			})
			mu.Lock()
			defer mu.Unlock()
			lease = append(lease, took)
		})
	}
	l := startLatches(b, settings[2].timeout)
	for i := range 2 {
		latch = append(latch, takeOverOfLatch(b, ensembles[electionTick], l, fmt.Sprint(i)))
	}
	runs.Wait()
	for _, s := range settings {
		got, bound := slices.Max(ours[s.name]), float64(s.bound())/float64(ms)
		Record(b, "crash take-over max, "+s.name, got, "ms", "its bound", bound)
		if got > bound {
			b.Errorf("crash take-over, %s: got %.4g ms, want no more than %.4g ms", s.name, got, bound)
		}
	}
	p50 := quantile(ours[settings[2].name], 50)
	Record(b, "crash take-over p50, "+settings[2].name, p50, "ms", "LeaseLock", quantile(lease, 50))
	Record(b, "crash take-over p50, "+settings[2].name, p50, "ms", "Curator's LeaderLatch, the same session", quantile(latch, 50))
}

// takeOver of a leader whose way to every server is cut.
func takeOver(b *testing.B, e *lab.Ensemble, s setting, name string) float64 {
	links, err := lab.LinkClient(b.Context(), e)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer links.Close()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	begun := make(chan string, 2)
	start := func(servers, identity string) <-chan error {
		over := make(chan error, 1)
		go func() { over <- s.stand(ctx, servers, name, identity, begun) }()
		return over
	}
	await := func(identity string, over <-chan error) {
		select {
		case got := <-begun:
			if got != identity {
				b.Errorf("%s: %s leads, want %s", name, got, identity)
			}
		case err := <-over:
			b.Errorf("%s: %s has left: %v", name, identity, err)
		}
	}
	await("first", start(links.Connect(), "first"))
	second := start(e.Connect(), "second")
	<-time.After(3 * time.Second)
	crashed := time.Now()
	if err := links.All((*lab.Link).Drop); err != nil {
		b.Error(err)
	}
	await("second", second)
	return float64(time.Since(crashed)) / float64(ms)
}

// stand for an election with a session of its own, until one term is over.
func (s setting) stand(ctx context.Context, servers, election, identity string, begun chan<- string) error {
	cfg := leaderelection.SessionConfig{Servers: servers, Timeout: s.timeout, Tick: s.tick}
	session, err := leaderelection.Dial(ctx, cfg)
	for err != nil && ctx.Err() == nil { // a short session has little time to be opened
		session, err = leaderelection.Dial(ctx, cfg)
	}
	if err != nil {
		return err
	}
	defer session.Close(context.WithoutCancel(ctx))
	work := func(ctx context.Context) {
		begun <- identity
		<-ctx.Done()
	}
	c := leaderelection.Config{
		Session: session, Namespace: "bench", Name: election, Identity: identity,
		LeaseDuration: s.lease, RenewDeadline: s.renew, RetryPeriod: s.retry, StopTime: s.stop,
	}
	if !s.bare {
		return leaderelection.Run(ctx, c, leaderelection.Callbacks{OnStartedLeading: work})
	}
	lock, err := leaderelection.New(c)
	if err != nil {
		return err
	}
	clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
		Lock: lock, LeaseDuration: s.lease, RenewDeadline: s.renew, RetryPeriod: s.retry,
		Callbacks: clientgo.LeaderCallbacks{OnStartedLeading: work, OnStoppedLeading: func() {}},
	})
	return nil
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
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
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
			go clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
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
	before := cpu(b)
	writes := writesPerMinute(b, e, rest)
	busy := cpu(b) - before
	heapAfter, goroutinesAfter := footprint()
	if lost := len(slices.DeleteFunc(locks, func(l *leaderelection.Lock) bool { return l.Term() != nil })); lost > 0 {
		b.Fatalf("%d of the locks were lost before they were measured", lost)
	}
	stop()
	Record(b, "10,000 locks in one process, CPU at rest", 100*busy.Seconds()/rest.Seconds(), "% of a core", "10,000 electors whose lock does nothing", 100*idleElectors(b, many, rest/2).Seconds()/(rest/2).Seconds())
	Record(b, "10,000 locks in one process, time to acquire all", took.Seconds(), "s", "LeaseLock (10,000 x 2 requests, by client-go's default 20 a second)", 2*many/20)
	Record(b, "10,000 locks in one process, quorum writes per minute at rest", writes, "writes/min", "LeaseLock (30 each, by its retry period)", 30*many)
	Record(b, "10,000 locks in one process, heap per lock with its elector", float64(heapAfter-heap)/many/1024, "KiB", "a ZooKeeper connection of its own", 132)
	Record(b, "10,000 locks in one process, goroutines per lock with its elector", float64(goroutinesAfter-goroutines)/many, "goroutines", "a ZooKeeper connection of its own", 3)
}
