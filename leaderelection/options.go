package leaderelection

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/config"
)

// The values of --leader-elect-resource-lock.
const (
	// Leases is client-go's own.
	Leases = resourcelock.LeasesResourceLock
	// ZooKeeper is the Lock.
	ZooKeeper = "zookeeper"
	// LeasesAndZooKeeper holds both, the Lease first: the step between the two of a
	// migration.
	LeasesAndZooKeeper = "leases-and-zookeeper"
)

// Options are the flags beside component-base's LeaderElectionConfiguration, which
// they do not repeat.
type Options struct {
	// Servers is --leader-elect-zookeeper-servers.
	Servers string
}

// AddFlags binds the flags of both: those of component-base that belong to c, and
// our own.
func (o *Options) AddFlags(fs *pflag.FlagSet, c *config.LeaderElectionConfiguration) {}

// Validate reports all problems of both at once, each with its flag and the fix.
func (o *Options) Validate(c *config.LeaderElectionConfiguration) error { return nil }

// Store is where an election is held, as the options chose it.
type Store struct {
	// Lock for a LeaderElector, or for controller-runtime's
	// LeaderElectionResourceLockInterface.
	Lock resourcelock.Interface
	// Session behind it, nil with Leases.
	Session *Session
}

// Close gives up what the store holds. Call it when the work has stopped.
func (s *Store) Close(ctx context.Context) error { return nil }

// Open returns the lock that the options ask for, in either store. kubeconfig is
// not used with ZooKeeper, and may be nil then.
func (o *Options) Open(ctx context.Context, c *config.LeaderElectionConfiguration, identity string, kubeconfig *rest.Config) (*Store, error) {
	return nil, errors.New("open lock: not built yet")
}
