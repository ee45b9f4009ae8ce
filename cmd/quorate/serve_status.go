package main

import (
	"context"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/election"
)

// addStatus keeps the status of Ensembles, on the one replica that leads.
func (p *process) addStatus(context.Context) error {
	candidate := p.identityOfCandidate()
	namespace := p.config.StatusController.LeaderElection.ResourceNamespace
	if namespace == "" {
		namespace = p.id.namespace
	}
	work, err := p.statusWork()
	if err != nil {
		return err
	}
	elector := &election.Elector{
		Client: p.client, Namespace: namespace, Identity: candidate, Open: p.openElection(candidate),
		Work: func(ctx context.Context) {
			p.metrics.leads.Set(1)
			defer p.metrics.leads.Set(0)
			group, ctx := errgroup.WithContext(ctx)
			for _, w := range work {
				group.Go(func() error { return w(ctx) })
			}
			p.logEnd(ctx, group.Wait())
		},
	}
	changes := make(chan config.LeaderElection, 1)
	last := p.config.StatusController.LeaderElection
	p.reloads = append(p.reloads, func(c *config.QuorateConfiguration) {
		if c.StatusController.LeaderElection == last {
			return
		}
		last = c.StatusController.LeaderElection
		select { // an older change that nobody took is over
		case <-changes:
		default:
		}
		changes <- last
	})
	p.elected = append(p.elected, func(ctx context.Context) error {
		elector.Run(ctx, p.config.StatusController.LeaderElection, changes)
		return nil
	})
	return nil
}

// statusWork is what the leader does.
func (p *process) statusWork() ([]func(context.Context) error, error) {
	return []func(context.Context) error{p.guardedConditions}, nil
}

func (p *process) logEnd(ctx context.Context, err error) {
	if err != nil {
		klog.FromContext(ctx).Error(err, "The status controller ended; the election begins again")
	}
}
