package leaderelection

import (
	"context"
	"time"
)

// Term is one stretch of leadership. It ends once, and never begins again: a
// process that leads a second time has another Term with a higher Token.
type Term struct {
	lock  *Lock
	token int64
	lost  chan struct{}
}

// Token is the fencing token: the zxid of the transaction that gave this process
// the lock, which is the czxid of the owner node for anyone to read. A later term
// of any process has a higher one.
func (t *Term) Token() int64 { return t.token }

// Identity of the leader, as in the record.
func (t *Term) Identity() string { return t.lock.Identity() }

// Lost is closed as soon as the term is over, for whatever reason, a release
// included. Work must have stopped within the lock's stop time from then.
func (t *Term) Lost() <-chan struct{} { return t.lost }

// Err is nil while the term lasts, and then why it ended.
func (t *Term) Err() error { return nil }

// Deadline is the moment, on this process's monotonic clock, by which all work of
// the term must have stopped unless a later proof moves it: before it the server
// cannot have ended the session. It is counted from the *sending* of the write
// that proves it, so that whoever is told late is not told wrong. A guardian in
// another process must be handed what remains, and count that from before it
// asked.
func (t *Term) Deadline() time.Time { return time.Time{} }

// Proven is closed when Deadline next moves.
func (t *Term) Proven() <-chan struct{} { return nil }

type termKey struct{}

// TermFrom returns the term that a context of Run's OnStartedLeading belongs to,
// or nil.
func TermFrom(ctx context.Context) *Term {
	t, _ := ctx.Value(termKey{}).(*Term)
	return t
}
