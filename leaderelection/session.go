package leaderelection

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// SessionConfig is what a Session needs. Only Servers has no default.
type SessionConfig struct {
	// Servers is a connection string: host:port,host:port/chroot. Names are resolved
	// again at every reconnect, and one that does not resolve does not hinder the
	// others.
	Servers string
	// Timeout to ask for; the server may grant another (see Session.Timeout).
	// Default 30 s, which the LeaderElector's own defaults need; Run is content with
	// less.
	Timeout time.Duration
	// Tick of the ensemble (tickTime), by which deadlines are shortened. Default 2 s,
	// ZooKeeper's own. Danger: never less than the ensemble's.
	Tick time.Duration
	// RenewInterval between two proofs. Default: Tick, but at most a tenth of Timeout.
	RenewInterval time.Duration
	// Root of all our nodes. Default /quorate.
	Root string
	// TLS, or nil for plain text. With a client certificate the session counts as
	// authenticated.
	TLS *tls.Config
	// Auth of the session, or nil. Without it, and without a client certificate, all
	// nodes are open to whoever reaches ZooKeeper, which is warned about.
	Auth *zookeeper.Auth
	// Registerer of the metrics; nil: not exported.
	Registerer prometheus.Registerer
}

// Session is a process's one ZooKeeper session, shared by all its locks. When it
// expires another takes its place; terms never outlive theirs. It is safe for
// concurrent use.
type Session struct{}

// Dial opens a session and waits until it is established, its node exists, and
// the server's timeout is known. Its errors say what is wrong: nobody answers,
// only read-only servers answer, credentials lack a permission. The session lives
// until Close, not until ctx ends; ctx carries the logger.
func Dial(ctx context.Context, cfg SessionConfig) (*Session, error) {
	return nil, errors.New("dial: not built yet")
}

// Close ends the session at the server, which deletes all that it owns: call it
// when the work of every term has stopped. It waits for all goroutines, until ctx
// ends.
func (s *Session) Close(ctx context.Context) error { return nil }

// Timeout that the server granted, 0 while there is no session.
func (s *Session) Timeout() time.Duration { return 0 }

// Check is a health check: an error while the session has not been proven for its
// whole timeout.
func (s *Session) Check() error { return nil }

// Election is what the store knows of one election.
type Election struct {
	// Namespace of the election.
	Namespace string
	// Name of the election.
	Name string
	// Holder is the identity of the leader, empty while nobody leads.
	Holder string
	// Since when it leads, by the leader's clock.
	Since time.Time
	// Token of its term.
	Token int64
	// Transitions so far.
	Transitions int
	// Standbys in the order in which they would lead.
	Standbys []string
}

// Elections in a namespace, or in all of them if it is empty, ordered by namespace
// and name.
func (s *Session) Elections(ctx context.Context, namespace string) ([]Election, error) {
	return nil, errors.New("list elections: not built yet")
}

// Election of one name. The error is zookeeper.ErrNoNode where there is none.
func (s *Session) Election(ctx context.Context, namespace, name string) (Election, error) {
	return Election{}, errors.New("read election: not built yet")
}

// Resign asks the leader to stop and release, and returns when it has, or when ctx
// ends: the request is taken back then. It needs the permission to create nodes
// below the election.
func (s *Session) Resign(ctx context.Context, namespace, name string) error {
	return errors.New("resign: not built yet")
}
