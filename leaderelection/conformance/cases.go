package conformance

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var cases = []struct {
	name string
	run  func(e *election)
}{
	{"absent election is NotFound", absent},
	{"update before anything is refused", updateFirst},
	{"create acquires", create},
	{"create beside a holder is refused", createTwice},
	{"of many that create one wins", createRace},
	{"holder renews", renew},
	{"raw record changes with every renewal", rawChanges},
	{"update from an old read is refused", staleUpdate},
	{"release frees", releaseFrees},
	{"transitions are kept", transitions},
	{"release by another is refused", releaseClobbers},
	{"release is never a Conflict to the holder", releaseConflict},
	{"lease duration of no seconds is refused", truncated},
	{"record that names another is refused", foreign},
	{"identity is set and names the candidate", identity},
	{"calls end with their context", contexts},
	{"events do not panic", events},
}

func absent(e *election) {
	if _, _, err := e.join("a").Get(e.Context()); !apierrors.IsNotFound(err) {
		e.Errorf("get of an election that never was: %v, want NotFound", err)
	}
}

func updateFirst(e *election) {
	l := e.join("a")
	if err := l.Update(e.bounded(), record(l.Identity())); err == nil {
		e.Error("an update before any Get or Create succeeded")
	}
}

func create(e *election) {
	l := e.join("a")
	want := e.acquire(l)
	got, _, err := l.Get(e.bounded())
	if err != nil {
		e.Fatal(err)
	}
	if got.HolderIdentity != want.HolderIdentity || got.LeaseDurationSeconds != want.LeaseDurationSeconds || got.LeaderTransitions != 0 {
		e.Errorf("record is %+v, want %+v", got, want)
	}
}

func createTwice(e *election) {
	a, b := e.join("a"), e.join("b")
	e.acquire(a)
	if err := b.Create(e.bounded(), record(b.Identity())); !apierrors.IsAlreadyExists(err) {
		e.Errorf("create beside a holder: %v, want AlreadyExists", err)
	}
	if got := e.holder(a); got != a.Identity() {
		e.Errorf("holder is %q, want %q", got, a.Identity())
	}
}

func createRace(e *election) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for n := range strings.SplitSeq("abcdefgh", "") {
		l := e.join(n)
		wg.Go(func() {
			if l.Create(e.bounded(), record(l.Identity())) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		e.Errorf("%d of 8 acquired the lock", won.Load())
	}
}

func renew(e *election) {
	l := e.join("a")
	r := e.acquire(l)
	for range 3 {
		if err := l.Update(e.bounded(), r); err != nil {
			e.Fatalf("renew: %v", err)
		}
	}
	if got := e.holder(l); got != l.Identity() {
		e.Errorf("holder is %q after renewals", got)
	}
}

func rawChanges(e *election) {
	a, b := e.join("a"), e.join("b")
	r := e.acquire(a)
	_, before, err := b.Get(e.bounded())
	if err != nil {
		e.Fatal(err)
	}
	if err := a.Update(e.bounded(), r); err != nil {
		e.Fatal(err)
	}
	_, after, err := b.Get(e.bounded())
	if err != nil {
		e.Fatal(err)
	}
	e.not(KeepsRaw, bytes.Equal(before, after), "the raw record is the same after a renewal")
}

// staleUpdate: two read that the lock is free, and one after the other takes it.
func staleUpdate(e *election) {
	a, b := e.join("a"), e.join("b")
	e.acquire(a)
	if err := e.release(a); err != nil {
		e.Fatal(err)
	}
	c := e.join("c")
	a.RecordEvent("stopped leading")
	if e.holder(b) != "" || e.holder(c) != "" {
		e.Fatal("lock is not free after a release")
	}
	if err := b.Update(e.bounded(), record(b.Identity())); err != nil {
		e.Fatalf("acquire a free lock: %v", err)
	}
	err := c.Update(e.bounded(), record(c.Identity()))
	if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		e.Errorf("second acquire from an old read: %v, want Conflict or AlreadyExists", err)
	}
}

func releaseFrees(e *election) {
	a, b := e.join("a"), e.join("b")
	e.acquire(a)
	if got := e.holder(b); got != a.Identity() {
		e.Errorf("holder is %q to others, want %q", got, a.Identity())
	}
	if err := e.release(a); err != nil {
		e.Fatalf("release: %v", err)
	}
	if got := e.holder(b); got != "" {
		e.Errorf("holder is %q after the release", got)
	}
}

func transitions(e *election) {
	a, b := e.join("a"), e.join("b")
	e.acquire(a)
	if err := e.release(a); err != nil {
		e.Fatal(err)
	}
	if r := e.acquire(b); r.LeaderTransitions != 1 {
		e.Errorf("transitions are %d after one, want 1", r.LeaderTransitions)
	}
}

// releaseClobbers: what client-go's release does when it has been deposed and does
// not know it.
func releaseClobbers(e *election) {
	a, b := e.join("a"), e.join("b")
	e.acquire(a)
	e.holder(b)
	err := e.release(b)
	if apierrors.IsConflict(err) {
		e.Errorf("release by another is a Conflict, which client-go 0.37 repeats for ever: %v", err)
	}
	e.not(ReleaseClobbers, e.holder(a) != a.Identity(), "another's release took the lock from its holder")
}

func releaseConflict(e *election) {
	l := e.join("a")
	e.acquire(l)
	e.holder(l)
	if err := e.release(l); err != nil {
		e.Errorf("release by the holder: %v", err)
	}
}

func truncated(e *election) {
	l := e.join("a")
	r := record(l.Identity())
	r.LeaseDurationSeconds = 0
	e.not(TakesTruncated, l.Create(e.bounded(), r) == nil, "a lease duration of 0 s was accepted")
}

func foreign(e *election) {
	l := e.join("a")
	e.not(TakesForeign, l.Create(e.bounded(), record("somebody-else")) == nil, "a record in another's name was accepted")
}

func identity(e *election) {
	l := e.join("a")
	if id := l.Identity(); !strings.HasPrefix(id, "a") {
		e.Errorf("identity is %q, want one that begins with a", id)
	}
	if l.Describe() == "" {
		e.Error("the lock describes itself by nothing")
	}
}

func contexts(e *election) {
	l := e.join("a")
	e.acquire(l)
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	other := e.join("b")
	if _, _, err := other.Get(ctx); err == nil {
		e.Error("a Get whose context had ended succeeded")
	}
	if err := other.Create(ctx, record(other.Identity())); err == nil {
		e.Error("a Create whose context had ended succeeded")
	}
}

func events(e *election) {
	l := e.join("a")
	panicked := func() (p bool) {
		defer func() { p = recover() != nil }()
		l.RecordEvent("became leader")
		return false
	}
	e.not(PanicsEarly, panicked(), "an event before the first call panicked")
}
