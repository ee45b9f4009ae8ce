package lab

import (
	"context"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// SchedulerConfig says how a kube-scheduler runs.
type SchedulerConfig struct {
	// Name tells several apart: it names the log. Default: kube-scheduler.
	Name string
	// Configuration as in a file. The lab fills in what it leaves empty: apiVersion
	// and kind, the kubeconfig, and no leader election. Nil: the defaults.
	Configuration *schedulerv1.KubeSchedulerConfiguration
	// Args are added to the command line.
	Args []string
}

// Scheduler is a running kube-scheduler.
type Scheduler struct {
	*Process
	// Address of its /healthz and /metrics, over TLS.
	Address string

	plane *ControlPlane
}

// StartScheduler starts a kube-scheduler beside those that run already. It ends
// with the control plane, or with its own Close; then it may be started again.
func (c *ControlPlane) StartScheduler(ctx context.Context, config SchedulerConfig) (*Scheduler, error) {
	if config.Name == "" {
		config.Name = "kube-scheduler"
	}
	var s *Scheduler
	err := retryPorts(func() error {
		var err error
		s, err = c.startScheduler(ctx, config)
		return err
	})
	return s, err
}

func (c *ControlPlane) startScheduler(ctx context.Context, config SchedulerConfig) (*Scheduler, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(ports[0], ":")
	file, err := c.writeSchedulerConfiguration(config)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"--config=" + file, "--bind-address=127.0.0.1", "--secure-port=" + port,
		"--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics",
	}, config.Args...)
	p, err := c.run(ctx, "kube-scheduler", config.Name, probe{url: "https://" + ports[0] + "/readyz"}, args...)
	if err != nil {
		return nil, err
	}
	return &Scheduler{Process: p, Address: ports[0], plane: c}, nil
}

// Close ends it at once (SIGKILL), whatever it is binding.
func (s *Scheduler) Close() error {
	s.plane.end(s.Process)
	return nil
}

func (c *ControlPlane) writeSchedulerConfiguration(config SchedulerConfig) (string, error) {
	full := schedulerv1.KubeSchedulerConfiguration{}
	if config.Configuration != nil {
		full = *config.Configuration.DeepCopy()
	}
	full.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{
		Group: schedulerv1.GroupName, Version: "v1", Kind: "KubeSchedulerConfiguration",
	})
	if full.ClientConnection.Kubeconfig == "" {
		kubeconfig, err := c.KubeconfigAs("system:kube-scheduler")
		if err != nil {
			return "", err
		}
		full.ClientConnection.Kubeconfig = kubeconfig
	}
	if full.LeaderElection.LeaderElect == nil {
		full.LeaderElection.LeaderElect = new(false)
	}
	text, err := yaml.Marshal(full)
	if err != nil {
		return "", fmt.Errorf("encode the configuration of %s: %w", config.Name, err)
	}
	path := c.path(config.Name + ".yaml")
	return path, os.WriteFile(path, text, 0o600)
}
