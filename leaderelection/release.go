package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// giveBack frees the election after the end of a term that the session survived,
// when whoever acted under it has stopped. A release says so itself. After a loss
// a bare elector says when it has stopped, and its work has the stop time from
// then; if it says nothing, a lease duration passes as it would with a Lease. Run
// says it when the work has returned, and never gives back before: work that does
// not stop keeps the lock.
func (t *Term) giveBack(ctx context.Context) error {
	if !errors.Is(t.Err(), ErrReleased) && !t.stoppedWithin(ctx, t.lock.cfg.LeaseDuration) {
		return ErrSessionEnded
	}
	grace := t.grace
	if errors.Is(t.Err(), ErrReleased) && t.lock.cfg.StopsFirst {
		grace = 0
	}
	if !sleep(ctx, grace) {
		return ErrSessionEnded
	}
	return t.free(ctx)
}

// stoppedWithin waits until the elector has stopped, or for a bare one until so
// long has passed; false if ctx ended first.
func (t *Term) stoppedWithin(ctx context.Context, d time.Duration) bool {
	if t.lock.managed {
		d = math.MaxInt64
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.over:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// release frees the election while the term lasts, by the elector's wish. The term
// is over before anything is written, and what is written is not given up when ctx
// ends.
func (t *Term) release(ctx context.Context) error {
	t.lose(ErrReleased)
	if err := t.Err(); !errors.Is(err, ErrReleased) {
		return err
	}
	return t.freed(ctx)
}

// freed waits until the nodes were given back.
func (t *Term) freed(ctx context.Context) error {
	select {
	case <-t.gone:
		return t.freeErr
	case <-ctx.Done():
		return fmt.Errorf("release %s: %w: %w", t.lock.Describe(), ErrUnsure, context.Cause(ctx))
	}
}

// free deletes the owner and the claim and empties the record, all at once or not:
// only with the record as my acquire left it is the owner that is deleted mine.
func (t *Term) free(ctx context.Context) error {
	begin := time.Now()
	err := t.tryFree(ctx)
	t.life.metrics.observe(opRelease, begin, err)
	return err
}

func (t *Term) tryFree(ctx context.Context) error {
	version, claim := t.recordVersion(), t.claim
	record := t.lock.emptied()
	for {
		err := t.lock.freeUnder(ctx, t.life, claim, record, version)
		if err == nil {
			return nil
		}
		if !retriable(err) && !refused(err) {
			return fmt.Errorf("release %s: %w", t.lock.Describe(), err)
		}
		mine := false
		claim, mine, version, err = t.stillMine(ctx, claim)
		if err != nil {
			return fmt.Errorf("release %s: %w", t.lock.Describe(), err)
		}
		if !mine {
			return deleteNode(ctx, t.life, t.lock.layout.claim(claim))
		}
		if !pause(ctx, t.life) {
			return fmt.Errorf("release %s: %w", t.lock.Describe(), ErrSessionEnded)
		}
	}
}

// freeUnder a claim deletes the owner, and leaves a record. The claim goes with it, by
// which nothing is done if it is gone already, nor if the record is at another version.
func (l *Lock) freeUnder(ctx context.Context, li *life, claim string, record resourcelock.LeaderElectionRecord, version int32) error {
	_, err := li.Multi(ctx,
		&zookeeper.Delete{Path: l.layout.claim(claim), Version: zookeeper.AnyVersion},
		&zookeeper.Set{Path: l.layout.record, Data: encode(record), Version: version},
		&zookeeper.Delete{Path: l.layout.owner(), Version: zookeeper.AnyVersion})
	return err
}

// refused are the answers that say that something else is in the tree than we
// thought.
func refused(err error) bool {
	return errors.Is(err, zookeeper.ErrBadVersion) || errors.Is(err, zookeeper.ErrNoNode) || errors.Is(err, zookeeper.ErrNodeExists)
}

// stillMine looks until it is known whether the owner is mine, at which version of the
// record, and by which claim it can be given back. An older version is worth nothing
// under another claim.
func (t *Term) stillMine(ctx context.Context, claim string) (by string, mine bool, version int32, err error) {
	for {
		claim, err = t.lock.claimAgain(ctx, t.life, claim)
		if err == nil {
			mine, version, err = t.holds(ctx)
		}
		if err == nil || !retriable(err) {
			return claim, mine, version, err
		}
		if !pause(ctx, t.life) {
			return claim, false, 0, ErrSessionEnded
		}
	}
}

// claimAgain is the claim, or another should an administrator have deleted it: without
// one an owner that is mine would never be given back. While a claim is there, the record
// cannot be deleted and made anew, so that a version means what it did when the claim was
// made. The deleted one is not made again: by it the term's fence would let writes pass
// beside whoever has acquired a record that was made anew.
func (l *Lock) claimAgain(ctx context.Context, li *life, claim string) (string, error) {
	_, _, err := li.Get(ctx, l.layout.claim(claim))
	if !errors.Is(err, zookeeper.ErrNoNode) {
		return claim, err
	}
	claim = uuid.NewString()
	err = makeNode(ctx, li, &zookeeper.Create{Path: l.layout.claim(claim), Data: []byte(l.identity), Ephemeral: true})
	if errors.Is(err, zookeeper.ErrNoNode) {
		err = nil // nor is there a record, or an owner
	}
	return claim, err
}

// holds reads the record's version first and the owner after it, so that an owner
// that is mine was mine at that version.
func (t *Term) holds(ctx context.Context) (mine bool, version int32, err error) {
	_, record, err := t.life.Get(ctx, t.lock.layout.record)
	if errors.Is(err, zookeeper.ErrNoNode) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	_, owner, err := t.life.Get(ctx, t.lock.layout.owner())
	if errors.Is(err, zookeeper.ErrNoNode) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	return owner.Czxid == t.token && owner.EphemeralOwner == t.life.SessionID(), record.Version, nil
}

// deleteNode that may be gone already.
func deleteNode(ctx context.Context, conn Conn, path string) error {
	for {
		_, err := conn.Multi(ctx, &zookeeper.Delete{Path: path, Version: zookeeper.AnyVersion})
		switch {
		case err == nil || errors.Is(err, zookeeper.ErrNoNode):
			return nil
		case !retriable(err) || !pause(ctx, conn):
			return err
		}
	}
}

func (t *Term) recordVersion() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

// sleep for d; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
