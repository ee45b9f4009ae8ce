package leaderelection

import (
	"errors"

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
	// ErrPastDeadline means that the session was not proven alive for so long that
	// the server may end it before this process has stopped its work.
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
