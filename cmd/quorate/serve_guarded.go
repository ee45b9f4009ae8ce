package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/cmd/quorate/internal/audit"
	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// guardedInterval is how often the condition Guarded is brought up to date, besides
// whenever the self-audit found something else.
const guardedInterval = 10 * time.Second

// guardedConditions tells on every Ensemble whether evictions of its members are
// judged at all: in its namespace, by a guard that is installed as it should be.
func (p *process) guardedConditions(ctx context.Context) error {
	ticker := time.NewTicker(guardedInterval)
	defer ticker.Stop()
	for {
		if err := p.writeGuarded(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Could not bring the condition Guarded up to date")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.auditor.Changed():
		case <-ticker.C:
		}
	}
}

func (p *process) writeGuarded(ctx context.Context) error {
	var namespaces corev1.NamespaceList
	if err := p.live.List(ctx, &namespaces); err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	guarded := map[string]bool{}
	for i := range namespaces.Items {
		guarded[namespaces.Items[i].Name] = namespaces.Items[i].Labels[deploy.GuardLabel] == "enabled"
	}
	var ensembles v1alpha1.EnsembleList
	if err := p.live.List(ctx, &ensembles); err != nil {
		return fmt.Errorf("list ensembles: %w", err)
	}
	report := p.auditor.Report()
	for i := range ensembles.Items {
		e := &ensembles.Items[i]
		want := audit.Guarded(e, guarded[e.Namespace], report)
		if err := audit.WriteCondition(ctx, p.live, e, want); err != nil {
			return err
		}
	}
	return nil
}
