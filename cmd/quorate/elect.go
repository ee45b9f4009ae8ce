package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	componentconfig "k8s.io/component-base/config"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/cmd/quorate/internal/guardian"
	"github.com/quorate/quorate/cmd/quorate/internal/serving"
	"github.com/quorate/quorate/cmd/quorate/internal/wrapper"
	"github.com/quorate/quorate/leaderelection"
)

const electLong = `Run COMMAND while this process leads, and only then.

At most one of all copies runs its command. Should this process lose its leadership,
hang or be killed, a small guardian process kills the command and all its descendants
before anybody else can lead. A pause of the whole container or machine is the one
thing that it cannot see: whatever COMMAND writes to should look at the fencing token.

COMMAND finds in its environment:
  QUORATE_IDENTITY        who leads, as others see it
  QUORATE_FENCING_TOKEN   a number that grows with every term

It gets every signal that this process gets, SIGKILL and SIGSTOP apart. What it leaves
behind when it ends is killed; then the leadership is given back at once.

Exit codes: those of COMMAND; 128 and the number of the signal that ended it, or that
came while standing by; and
  124   leadership was lost, and COMMAND was stopped
  125   quorate itself failed: its flags, or its store
  126   COMMAND cannot be run
  127   COMMAND was not found`

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

// validate reports all problems. With ZooKeeper the elector's own durations are no
// part of the budget, since the command is stopped by the term's end, not by the
// elector.
func (o *electionOptions) validate() error {
	c := o.election
	switch c.ResourceLock {
	case leaderelection.LeasesAndZooKeeper:
		return fmt.Errorf("--leader-elect-resource-lock: %s is for programs that elect by themselves: choose one store", c.ResourceLock)
	case leaderelection.ZooKeeper:
		c.RenewDeadline.Duration, c.RetryPeriod.Duration = 200*time.Millisecond, 100*time.Millisecond
	}
	return o.store.Validate(&c)
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

type electOptions struct {
	*electionOptions
	identity, healthBindAddress string
}

func newElect() *cobra.Command {
	o := &electOptions{electionOptions: newElectionOptions()}
	cmd := &cobra.Command{
		Use:   "elect [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command while leading, and only then",
		Long:  electLong,
		Args: func(_ *cobra.Command, command []string) error {
			if len(command) == 0 {
				return withCode(wrapper.CodeFailed, errors.New("name a command to run: quorate elect [flags] -- COMMAND"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, command []string) error {
			code, err := o.run(cmd.Context(), command)
			return withCode(code, err)
		},
	}
	o.addFlags(cmd)
	fs := cmd.Flags()
	fs.StringVar(&o.identity, "identity", "", "name of this candidate for people; default: the host's")
	fs.StringVar(&o.healthBindAddress, "health-bind-address", "", "host:port of /healthz, /readyz and /metrics; empty: not served")
	fs.SetInterspersed(false) // flags end where the command begins
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(wrapper.CodeFailed, err) })
	return cmd
}

// run is elect until the command has ended and the lock is given back.
func (o *electOptions) run(parent context.Context, command []string) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if err := o.complete(); err != nil {
		return wrapper.CodeFailed, err
	}
	// A signal is for the command; it ends nothing here by itself.
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	defer cancel()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	candidacy, finish, err := o.candidacy(parent, metrics)
	if err != nil {
		return wrapper.CodeFailed, err
	}
	defer finish()
	self, err := os.Executable()
	if err != nil {
		return wrapper.CodeFailed, err
	}
	w := &wrapper.Wrapper{
		Candidacy: candidacy, StopTime: o.store.StopTime, Signals: signals,
		Guardian: append([]string{self, guardCommand, wrapper.GraceOf(o.store.StopTime).String(), "--"}, command...),
	}
	if err := w.Register(metrics); err != nil {
		return wrapper.CodeFailed, err
	}
	served, err := o.serveHealth(ctx, w.Handler(metrics))
	if err != nil {
		return wrapper.CodeFailed, err
	}
	code, err := w.Run(ctx)
	cancel()
	return code, errors.Join(err, <-served)
}

func (o *electOptions) complete() error {
	if o.identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		o.identity = host
	}
	logs.InitLogs()
	return errors.Join(logsapi.ValidateAndApply(o.logging, nil), o.validate())
}

// candidacy in the store that was chosen, and what to do after it.
func (o *electOptions) candidacy(ctx context.Context, reg prometheus.Registerer) (wrapper.Candidacy, func(), error) {
	c := &o.election
	if c.ResourceLock == leaderelection.Leases {
		client, err := o.leases()
		if err != nil {
			return nil, nil, err
		}
		return &wrapper.Leases{
			Client: client.CoordinationV1(), Namespace: c.ResourceNamespace, Name: c.ResourceName,
			Identity:      o.identity + "_" + uuid.NewString(),
			LeaseDuration: c.LeaseDuration.Duration, RenewDeadline: c.RenewDeadline.Duration, RetryPeriod: c.RetryPeriod.Duration,
		}, func() {}, nil
	}
	dialing, cancel := context.WithTimeout(ctx, 2*o.store.SessionTimeout)
	defer cancel()
	session, err := o.store.Dial(dialing, reg)
	if err != nil {
		return nil, nil, err
	}
	finish := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := session.Close(ctx); err != nil {
			klog.FromContext(ctx).V(2).Info("Session was not closed, it will expire", "err", err)
		}
	}
	return &wrapper.ZooKeeper{Config: leaderelection.Config{
		Session: session, Namespace: c.ResourceNamespace, Name: c.ResourceName, Identity: o.identity,
		LeaseDuration: c.LeaseDuration.Duration, RenewDeadline: c.RenewDeadline.Duration, RetryPeriod: c.RetryPeriod.Duration,
		StopTime: o.store.StopTime, StopsFirst: true,
	}}, finish, nil
}

// serveHealth until ctx ends; what comes back then is how it went.
func (o *electOptions) serveHealth(ctx context.Context, handler http.Handler) (<-chan error, error) {
	served := make(chan error, 1)
	if o.healthBindAddress == "" {
		served <- nil
		return served, nil
	}
	listener, err := serving.Listen(ctx, "health", o.healthBindAddress)
	if err != nil {
		return nil, err
	}
	go func() {
		served <- serving.Run(ctx, serving.Drain{Ready: &serving.Readiness{}, Timeout: time.Second},
			&serving.Server{Name: "health", Listener: listener, Handler: handler})
	}()
	return served, nil
}

const guardCommand = "guard-elected"

// newGuard is what elect runs its command with.
func newGuard() *cobra.Command {
	return &cobra.Command{
		Use:    guardCommand + " GRACE -- COMMAND [ARGUMENT...]",
		Hidden: true,
		Args:   cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			grace, err := time.ParseDuration(args[0])
			if err != nil {
				return err
			}
			return guardian.Serve(args[1:], grace)
		},
	}
}
