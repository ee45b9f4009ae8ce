package wrapper

import (
	"context"
	"time"

	"github.com/quorate/quorate/leaderelection"
)

// Term is one stretch of leadership, as *leaderelection.Term.
type Term interface {
	// Token is the fencing token: a later term of anybody has a higher one.
	Token() int64
	// Identity of the leader, as others see it.
	Identity() string
	// Deadline by which nothing of the work may be left, unless a proof moves it.
	Deadline() time.Time
	// Proven is closed when the deadline moves.
	Proven() <-chan struct{}
	// Err is nil while the term lasts, and then why it ended.
	Err() error
}

// Candidacy waits until it leads, does the work once, and returns when the work has
// returned and the lock is given back: nil if it was so by itself or because ctx
// ended, else why leadership was lost. The context of the work ends with leadership.
type Candidacy interface {
	Run(ctx context.Context, work func(ctx context.Context, t Term)) error
	// Check is nil while the store answers.
	Check() error
}

// ZooKeeper is a candidacy there.
type ZooKeeper struct {
	// Config of the candidate.
	Config leaderelection.Config
}

// Run implements Candidacy.
func (z *ZooKeeper) Run(ctx context.Context, work func(context.Context, Term)) error {
	return leaderelection.Run(ctx, z.Config, leaderelection.Callbacks{
		OnStartedLeading: func(ctx context.Context) { work(ctx, leaderelection.TermFrom(ctx)) },
	})
}

// Check implements Candidacy.
func (z *ZooKeeper) Check() error { return z.Config.Session.Check() }
