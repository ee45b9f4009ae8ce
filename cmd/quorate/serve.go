package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
)

// serveOptions are the flags of serve. Those that were given win over the file.
type serveOptions struct {
	config, kubeconfig          string
	webhook, status, extender   bool
	webhookBindAddress          string
	extenderBindAddress         string
	healthAddress, metricsAddr  string
	resourceLock, zooKeeperAddr string
	logFormat                   string
	verbosity                   uint32
	writeConfig                 bool
}

func newServe() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Guard evictions and keep status; with --extender, place voters for the scheduler beside it",
		Long: `Guard evictions and keep the status of Ensembles, as deploy/base runs it; with
--extender, answer the scheduler beside it and do nothing else, unless asked to.

All that can be told is in the configuration file; the flags are for what differs
between two processes of one cluster, and win over it.`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		source := &config.Source{Path: o.config, Override: func(c *config.QuorateConfiguration) error { return o.override(cmd, c) }}
		c, err := source.Load()
		if err != nil {
			return err
		}
		if o.writeConfig {
			text, err := yaml.Marshal(c)
			if err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		}
		if err := logsapi.ValidateAndApply(&c.Logging, nil); err != nil {
			return fmt.Errorf("set up logging: %w", err)
		}
		collectAt()
		p, err := newProcess(c, source, placeOfProcess())
		if err != nil {
			return err
		}
		return p.run(klog.NewContext(cmd.Context(), klog.Background()))
	}
	return cmd
}

func (o *serveOptions) addFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&o.config, "config", "", "file with a QuorateConfiguration; without it the defaults hold")
	fs.BoolVar(&o.writeConfig, "write-config", false, "print the configuration in force, defaults included, and exit")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server; without it the pod's service account is used")
	fs.BoolVar(&o.webhook, "webhook", true, "guard evictions, deletions and scale-downs")
	fs.BoolVar(&o.status, "status-controller", true, "keep the status of Ensembles")
	fs.BoolVar(&o.extender, "extender", false, "answer the scheduler that runs beside, and do nothing else unless it is asked for by a flag, too")
	fs.StringVar(&o.webhookBindAddress, "webhook-bind-address", "", "host:port to answer API servers on")
	fs.StringVar(&o.extenderBindAddress, "extender-bind-address", "", "host:port to answer the scheduler on")
	fs.StringVar(&o.healthAddress, "health-bind-address", "", "host:port of /healthz and /readyz")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", "", "host:port of /metrics")
	fs.StringVar(&o.resourceLock, "leader-elect-resource-lock", "", "where the status controller is elected: leases or zookeeper")
	fs.StringVar(&o.zooKeeperAddr, "leader-elect-zookeeper-servers", "", "ZooKeeper servers of that election, as host:port,host:port/chroot")
	fs.StringVar(&o.logFormat, "logging-format", "", "text or json")
	fs.Uint32VarP(&o.verbosity, "v", "v", 0, "how much is logged: 0 changes and denials, 2 decisions, 4 probes, 5 and more what is on the wire")
}

func (o *serveOptions) override(cmd *cobra.Command, c *config.QuorateConfiguration) error {
	changed := cmd.Flags().Changed
	if changed("extender") {
		c.Extender.Enabled = o.extender
		if o.extender {
			c.Webhook.Enabled, c.StatusController.Enabled = false, false
			c.Health.BindAddress, c.Metrics.BindAddress = "", "" // the extender answers for both
		}
	}
	for flag, set := range map[string]func(){
		"kubeconfig":                     func() { c.ClientConnection.Kubeconfig = o.kubeconfig },
		"webhook":                        func() { c.Webhook.Enabled = o.webhook },
		"status-controller":              func() { c.StatusController.Enabled = o.status },
		"webhook-bind-address":           func() { c.Webhook.BindAddress = o.webhookBindAddress },
		"extender-bind-address":          func() { c.Extender.BindAddress = o.extenderBindAddress },
		"health-bind-address":            func() { c.Health.BindAddress = o.healthAddress },
		"metrics-bind-address":           func() { c.Metrics.BindAddress = o.metricsAddr },
		"leader-elect-resource-lock":     func() { c.StatusController.LeaderElection.ResourceLock = o.resourceLock },
		"leader-elect-zookeeper-servers": func() { c.StatusController.LeaderElection.ZooKeeper.Servers = o.zooKeeperAddr },
		"logging-format":                 func() { c.Logging.Format = o.logFormat },
		"v":                              func() { c.Logging.Verbosity = logsapi.VerbosityLevel(o.verbosity) },
	} {
		if changed(flag) {
			set()
		}
	}
	return validateElection(c)
}

// identity is who and where this process is in the cluster.
type identity struct{ namespace, name string }

// placeOfProcess is told by the downward API; outside a cluster it is the host's name.
func placeOfProcess() identity {
	id := identity{os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")}
	if id.namespace == "" {
		id.namespace = "quorate-system"
	}
	if id.name == "" {
		id.name, _ = os.Hostname()
	}
	return id
}
