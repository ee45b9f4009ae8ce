package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/cmd/quorate/internal/audit"
	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/deploy"
)

// addAudit looks whether what the cluster holds of us is as we were shipped.
func (p *process) addAudit(context.Context) error {
	c, err := p.auditConfig()
	if err != nil {
		return err
	}
	auditor := audit.NewAuditor(c)
	p.auditor = auditor
	var interval atomic.Int64
	interval.Store(int64(p.config.SelfAudit.Interval.Duration))
	p.reloads = append(p.reloads, func(c *config.QuorateConfiguration) { interval.Store(int64(c.SelfAudit.Interval.Duration)) })
	p.parts = append(p.parts, func(ctx context.Context) error {
		return auditor.Run(ctx, func() time.Duration { return time.Duration(interval.Load()) })
	})
	return nil
}

// auditConfig is what this process looks at: the guard's configurations if it is the
// guard, or tells on Ensembles whether they are guarded; the scheduler's beside which
// it runs.
func (p *process) auditConfig() (audit.Config, error) {
	c := audit.Config{Reader: p.live, Deadline: p.config.Webhook.Deadline.Duration, Events: p.recorder, Metrics: p.registry}
	if p.config.Webhook.Enabled || p.config.StatusController.Enabled {
		c.Validating, c.Mutating, c.Definition = new(admissionv1.ValidatingWebhookConfiguration), new(admissionv1.MutatingWebhookConfiguration), new(apiextensionsv1.CustomResourceDefinition)
		for file, into := range map[string]any{
			deploy.ValidatingWebhooks: c.Validating, deploy.MutatingWebhooks: c.Mutating, deploy.EnsembleCRD: c.Definition,
		} {
			text, err := deploy.Files.ReadFile(file)
			if err != nil {
				return c, fmt.Errorf("read what was shipped: %w", err)
			}
			if err := yaml.UnmarshalStrict(text, into); err != nil {
				return c, fmt.Errorf("read what was shipped: %w", err)
			}
		}
		c.Validating.Name, c.Mutating.Name = p.config.Webhook.ConfigurationName, p.config.Webhook.ConfigurationName
	}
	if p.config.Extender.Enabled {
		c.SchedulerFile, c.ExtenderAddress = p.config.Extender.SchedulerConfiguration, p.config.Extender.BindAddress
	}
	return c, nil
}
