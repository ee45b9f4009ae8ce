package main

import (
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	componentconfig "k8s.io/component-base/config"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/quorate/quorate/leaderelection"
)

// electionOptions are the flags of all that touches an election.
type electionOptions struct {
	store      *leaderelection.Options
	election   componentconfig.LeaderElectionConfiguration
	kubeconfig string
	logging    *logsapi.LoggingConfiguration
}

func newElectionOptions() *electionOptions {
	o := &electionOptions{store: leaderelection.NewOptions(), logging: logsapi.NewLoggingConfiguration()}
	o.store.StopsFirst = true // the lock is given back when the command is gone
	o.election = componentconfig.LeaderElectionConfiguration{
		LeaderElect: true, ResourceLock: leaderelection.ZooKeeper, ResourceNamespace: metav1.NamespaceDefault,
		LeaseDuration: metav1.Duration{Duration: leaderelection.DefaultLeaseDuration},
		RenewDeadline: metav1.Duration{Duration: leaderelection.DefaultRenewDeadline},
		RetryPeriod:   metav1.Duration{Duration: leaderelection.DefaultRetryPeriod},
	}
	return o
}

func (o *electionOptions) addFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	o.store.AddFlags(fs, &o.election)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server, for leases; without it the pod's service account is used")
	logsapi.AddFlags(o.logging, fs)
	for _, hidden := range []string{"leader-elect", "leader-elect-zookeeper-seal-lease"} {
		_ = fs.MarkHidden(hidden)
	}
}

// validate reports all problems.
func (o *electionOptions) validate() error {
	if o.election.ResourceLock == leaderelection.LeasesAndZooKeeper {
		return fmt.Errorf("--leader-elect-resource-lock: %s is for programs that elect by themselves, and migrate one by one: choose one store, and stop all copies to change it", leaderelection.LeasesAndZooKeeper)
	}
	return o.store.Validate(&o.election)
}

func (o *electionOptions) leases() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	// As client-go does: one request must not take the whole renew deadline.
	config.Timeout = o.election.RenewDeadline.Duration / 2
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	return client, nil
}
