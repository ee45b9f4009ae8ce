package leaderelection

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

var (
	// ErrUnsure means that a write may or may not have been applied: the connection
	// broke, or the caller's context ended, before the answer. Read before acting;
	// never count it as either.
	ErrUnsure = zookeeper.ErrUnsure
	// ErrSessionEnded means that the ZooKeeper session is over: it expired, at the
	// server or by our own clock, or was closed.
	ErrSessionEnded = zookeeper.ErrEnded
	// ErrPastDeadline means that the session was not proven alive, or a Lease that is
	// held beside it not renewed, for so long that it may end before this process has
	// stopped its work.
	ErrPastDeadline = errors.New("leadership not proven in time")
	// ErrNotHolder means that this session does not own the lock.
	ErrNotHolder = errors.New("not the holder of the lock")
	// ErrTermOver means that a term has ended and its elector has not stopped yet:
	// nothing may be acquired behind its back.
	ErrTermOver = errors.New("term is over and its elector has not stopped")
	// ErrOwnerGone means that the owner or the claim of a term was deleted.
	ErrOwnerGone = errors.New("owner node is gone")
	// ErrResigned means that an administrator asked the leader to resign.
	ErrResigned = errors.New("asked to resign")
	// ErrStuck means that the elector did not renew for a whole lease duration.
	ErrStuck = errors.New("elector has stopped renewing")
	// ErrReleased means that the leader gave the lock back.
	ErrReleased = errors.New("released")
	// ErrBudget means that the session timeout that the server granted is too short
	// for the durations of the elector.
	ErrBudget = errors.New("session timeout too short for the elector")
)

// errNoRecord is what an elector creates on.
var errNoRecord = fmt.Errorf("%w: no record", zookeeper.ErrNoNode)

// asAPI gives an error the form in which a LeaderElector knows it. A refused
// release never comes here: client-go 0.37 repeats one that is a Conflict until the
// stack overflows.
func (l *Lock) asAPI(op string, err error) error {
	res := schema.GroupResource{Resource: "znodes"}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, zookeeper.ErrNoNode):
		return apierrors.NewNotFound(res, l.layout.record)
	case errors.Is(err, zookeeper.ErrNodeExists):
		return apierrors.NewAlreadyExists(res, l.layout.record)
	case errors.Is(err, zookeeper.ErrBadVersion):
		return apierrors.NewConflict(res, l.layout.record, err)
	}
	return fmt.Errorf("%s %s: %w", op, l.Describe(), err)
}
