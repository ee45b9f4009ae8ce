package leaderelection

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// view is an election as one server showed it. It proves nothing: the server may
// be cut off. What is acquired by it is checked when it is written.
type view struct {
	life    *life
	exists  bool // the record
	record  resourcelock.LeaderElectionRecord
	version int32
	owned   bool
	owner   zookeeper.Stat
	said    ownerData
	changed <-chan struct{} // the owner, if it was watched
}

// look at an election: the record first, the owner after it, so that an owner that is
// seen is that of the record's version or a later one; and where there is none the
// record after that, so that what is free is acquired by what the last owner left. Who
// watches the owner knows so first, and reads the record once: it is on its way to lead.
func (l *Lock) look(ctx context.Context, li *life, watch bool) (*view, error) {
	begin := time.Now()
	v, err := l.lookOnce(ctx, li, watch)
	l.metrics.observe(opRead, begin, err)
	return v, err
}

func (l *Lock) lookOnce(ctx context.Context, li *life, watch bool) (*view, error) {
	v := &view{life: li}
	if watch {
		_, exists, changed, err := li.Watch(ctx, l.layout.owner())
		if err != nil {
			return nil, err
		}
		v.changed = changed
		if !exists {
			return v, l.readRecord(ctx, v)
		}
	}
	if err := l.readRecord(ctx, v); err != nil || !v.exists {
		return v, err
	}
	data, owner, err := li.Get(ctx, l.layout.owner())
	if errors.Is(err, zookeeper.ErrNoNode) {
		// Whoever owned it a moment ago has written the record since.
		return v, l.readRecord(ctx, v)
	}
	if err != nil {
		return nil, err
	}
	v.owned, v.owner = true, owner
	if err := json.Unmarshal(data, &v.said); err != nil {
		v.said = ownerData{}
	}
	v.said.Holder = holderOf(data, v.owner)
	return v, nil
}

func (l *Lock) readRecord(ctx context.Context, v *view) error {
	data, record, err := v.life.Get(ctx, l.layout.record)
	if errors.Is(err, zookeeper.ErrNoNode) {
		v.exists = false
		return nil
	}
	if err != nil {
		return err
	}
	v.exists, v.version = true, record.Version
	if v.record, err = decodeRecord(data); err != nil {
		// Not ours, or damaged: whoever acquires the lock writes another.
		v.life.log.Info("Election record is not readable", "lock", l.Describe(), "err", err)
	}
	return nil
}

// holder that the view is shown with: the owner's word, whatever the record says.
// What has this lock's name but is not its current term is another: a session that
// the server has not given up, or a term that is being given back.
func (v *view) holder(l *Lock) string {
	switch {
	case !v.owned:
		return ""
	case v.said.Holder == l.identity:
		return v.said.Holder + " (earlier term)"
	}
	return v.said.Holder
}

// forElector is the view in the form that a LeaderElector judges: it differs from
// the one before, so that the elector does not take the lock for abandoned while
// its owner lives, and names nobody once the owner is gone.
func (l *Lock) forElector(v *view) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	l.seen = v
	l.reads++
	reads := l.reads
	l.mu.Unlock()
	if !v.exists {
		return nil, nil, l.asAPI("get", errNoRecord)
	}
	r := v.record
	r.HolderIdentity = v.holder(l)
	if v.owned {
		r.RenewTime = metav1.Now()
		r.LeaseDurationSeconds = max(r.LeaseDurationSeconds, int(l.cfg.LeaseDuration/time.Second))
	}
	return &r, raw(&r, reads), nil
}

func raw(r *resourcelock.LeaderElectionRecord, reads int) []byte {
	return append(append(encode(r), '\n'), strconv.Itoa(reads)...)
}

// own is the record of the current term.
func (l *Lock) own() (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	r := l.record
	r.RenewTime = metav1.Now()
	return &r, raw(&r, l.reads), nil
}

// removeStray deletes an owner of this session that no attempt and no term claims, and
// looks again under a claim first: while that is there, the record cannot be made anew,
// and another owner has another version of it.
func (l *Lock) removeStray(ctx context.Context, v *view) error {
	li, claim := v.life, v.said.Claim
	for {
		var err error
		if claim, err = l.claimAgain(ctx, li, claim); err == nil {
			err = l.removeUnder(ctx, li, claim)
		}
		if err == nil {
			return nil
		}
		if !retriable(err) || !pause(ctx, li) {
			// Nobody else knows of the claim.
			li.spawn(func() { _ = deleteNode(li.ctx, li, l.layout.claim(claim)) })
			return err
		}
	}
}

// removeUnder a claim, and with it, what is a stray owner still.
func (l *Lock) removeUnder(ctx context.Context, li *life, claim string) error {
	v, err := l.look(ctx, li, false)
	if err != nil {
		return err
	}
	if v.stray() {
		if err := l.freeUnder(ctx, li, claim, v.record, v.version); !refused(err) {
			return err
		}
	}
	return deleteNode(ctx, li, l.layout.claim(claim))
}

func (v *view) stray() bool {
	return v.owned && v.owner.EphemeralOwner == v.life.SessionID() && !v.life.claimed(v.said.Claim)
}
