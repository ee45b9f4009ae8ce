package main

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
	componentconfig "k8s.io/component-base/config"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/election"
	"github.com/quorate/quorate/leaderelection"
)

// lockOptions are what the lock's own flags would say.
func lockOptions(c *config.LeaderElection) (*leaderelection.Options, *componentconfig.LeaderElectionConfiguration) {
	o := leaderelection.NewOptions()
	o.Servers, o.SessionTimeout, o.Tick = c.ZooKeeper.Servers, c.ZooKeeper.SessionTimeout.Duration, c.ZooKeeper.Tick.Duration
	if c.ZooKeeper.Root != "" {
		o.Root = c.ZooKeeper.Root
	}
	o.AuthFile = c.ZooKeeper.AuthFile
	o.CAFile, o.CertFile, o.KeyFile, o.ServerName = c.ZooKeeper.TLS.CAFile, c.ZooKeeper.TLS.CertFile, c.ZooKeeper.TLS.KeyFile, c.ZooKeeper.TLS.ServerName
	return o, &componentconfig.LeaderElectionConfiguration{
		LeaderElect: c.LeaderElect, LeaseDuration: c.LeaseDuration, RenewDeadline: c.RenewDeadline, RetryPeriod: c.RetryPeriod,
		ResourceLock: c.ResourceLock, ResourceName: c.ResourceName, ResourceNamespace: c.ResourceNamespace,
	}
}

// validateElection lets the lock judge its settings, the session against the lease.
func validateElection(c *config.QuorateConfiguration) error {
	e := c.StatusController.LeaderElection
	if !c.StatusController.Enabled || !e.LeaderElect || e.ResourceLock != leaderelection.ZooKeeper {
		return nil
	}
	if e.ResourceNamespace == "" {
		e.ResourceNamespace = placeOfProcess().namespace
	}
	o, lock := lockOptions(&e)
	if err := o.Validate(lock); err != nil {
		return fmt.Errorf("statusController.leaderElection: %w", err)
	}
	return nil
}

// openElection reaches the store of an election.
func (p *process) openElection(candidate string) election.Open {
	return func(ctx context.Context, c config.LeaderElection) (election.Store, error) {
		if c.ResourceNamespace == "" {
			c.ResourceNamespace = p.id.namespace
		}
		o, lock := lockOptions(&c)
		settings := leaderelection.Settings{Identity: candidate, Kubeconfig: p.rest}
		if c.ResourceLock == leaderelection.Leases {
			store, err := o.Open(ctx, lock, settings)
			if err != nil {
				return nil, err
			}
			return election.NewLease(store.Lock), nil
		}
		store, err := o.Open(ctx, lock, settings)
		if err != nil {
			return nil, err
		}
		id, err := store.Session.Ensemble(ctx)
		if err != nil {
			return nil, errors.Join(err, store.Close(ctx))
		}
		return &ensembleStore{store, id}, nil
	}
}

// ensembleStore is an election.Store in ZooKeeper.
type ensembleStore struct {
	*leaderelection.Store
	id string
}

// Lock implements election.Store.
func (s *ensembleStore) Lock() resourcelock.Interface { return s.Store.Lock }

// Identity implements election.Store.
func (s *ensembleStore) Identity() string { return s.id }
