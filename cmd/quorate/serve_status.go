package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/admission/status"
	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/election"
	"github.com/quorate/quorate/ensemble/probe"
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
			log := klog.FromContext(ctx)
			p.metrics.leads.Set(1)
			log.Info("Leads: keeps the status of Ensembles", "candidate", candidate)
			defer func() {
				log.Info("Leads no longer", "candidate", candidate)
				p.metrics.leads.Set(0)
			}()
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
		next := c.StatusController.LeaderElection
		next.LeaderElect, next.ResourceName, next.ResourceNamespace = last.LeaderElect, last.ResourceName, last.ResourceNamespace // see config.Fixed
		if next == last {
			return
		}
		last = next
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

// knownConfigs is for how long a configuration that was read for the status is not
// read again. Decisions read it afresh.
const knownConfigs = time.Minute

// statusWork is what the leader does.
func (p *process) statusWork() ([]func(context.Context) error, error) {
	_, informer, err := p.membership() // with its keeper of topologies, on every replica
	if err != nil {
		return nil, err
	}
	guard, err := admission.New(admission.Config{ // judges nothing: it ends grants
		Cluster: admission.Live{Reader: p.live, Writer: p.live}, Examiner: examinerOf(p.live), Memory: p.grants,
	})
	if err != nil {
		return nil, err
	}
	examiner := examinerOf(p.live)
	examiner.Configs = probe.NewConfigs(4096, knownConfigs)
	r := &status.Reconciler{
		Reader: p.live, Examiner: examiner, Membership: informer, Replicas: owners{p.live}.replicas, Release: guard.Release,
		Memory: p.grants, Events: p.recorder, Metrics: p.registry,
	}
	if err := r.Prepare(); err != nil {
		return nil, err
	}
	return []func(context.Context) error{
		p.guardedConditions,
		func(ctx context.Context) error { return p.keepStatus(ctx, r) },
	}, nil
}

// keepStatus runs the controller while this replica leads. A manager runs once, so
// that each time has its own.
func (p *process) keepStatus(ctx context.Context, r *status.Reconciler) error {
	mgr, err := ctrl.NewManager(p.rest, ctrl.Options{
		Scheme: p.live.Scheme(), Logger: klog.FromContext(ctx),
		Metrics:    metricsserver.Options{BindAddress: "0"}, // served with the rest of the process's
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return fmt.Errorf("run status controller: %w", err)
	}
	r.Client = mgr.GetClient()
	if err := r.SetupWithManager(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func (p *process) logEnd(ctx context.Context, err error) {
	if err != nil {
		klog.FromContext(ctx).Error(err, "The status controller ended; the election begins again")
	}
}
