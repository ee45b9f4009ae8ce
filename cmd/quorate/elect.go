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
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

With ZooKeeper the next one runs its command some milliseconds after this one gave the
leadership back, and after a crash when the session timeout and one and a half ticks
have passed at most: 13 s by default. With Leases, as long after as client-go's elector
takes with the durations of the flags.

It gets every signal that this process gets, SIGKILL and SIGSTOP apart. What it leaves
behind when it ends is killed; then the leadership is given back at once.

Exit codes: those of COMMAND; 128 and the number of the signal that ended it, or that
came while standing by; and
  124   leadership was lost, and COMMAND was stopped
  125   quorate itself failed: its flags, or its store
  126   COMMAND cannot be run
  127   COMMAND was not found`

// Defaults of elect with ZooKeeper. The session timeout leaves the command its stop
// time, and the proofs five seconds in which none comes through. The elector's durations
// ask nobody there; with Leases they are client-go's own.
const (
	electSessionTimeout = 10 * time.Second
	electLeaseDuration  = 3 * time.Second
	electRenewDeadline  = 2 * time.Second
	electRetryPeriod    = 500 * time.Millisecond
)

type electOptions struct {
	*electionOptions
	identity, healthBindAddress string
}

func newElect() *cobra.Command {
	return newElectFlags(&electOptions{electionOptions: newElectionOptions()})
}

// newElectFlags binds options to the command's flags.
func newElectFlags(o *electOptions) *cobra.Command {
	o.store.UsesRun, o.store.SessionTimeout = true, electSessionTimeout
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
			o.setDefaults(cmd.Flags())
			code, err := o.run(cmd.Context(), command)
			return withCode(code, err)
		},
	}
	o.addFlags(cmd)
	fs := cmd.Flags()
	fs.Lookup("leader-elect-resource-lock").Usage = fmt.Sprintf("Where the election is held: %q or %q.", leaderelection.Leases, leaderelection.ZooKeeper)
	for name, d := range o.durations() {
		fs.Lookup(name).Usage += fmt.Sprintf(" With ZooKeeper, where this asks nobody, the default is %v.", d.ofZooKeeper)
	}
	fs.StringVar(&o.identity, "identity", "", "name of this candidate for people; default: the host's")
	fs.StringVar(&o.healthBindAddress, "health-bind-address", "", "host:port of /healthz, /readyz and /metrics; empty: not served")
	fs.SetInterspersed(false) // flags end where the command begins
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(wrapper.CodeFailed, err) })
	return cmd
}

// electorDuration is one that a flag sets.
type electorDuration struct {
	value       *metav1.Duration
	ofZooKeeper time.Duration
}

func (o *electOptions) durations() map[string]electorDuration {
	return map[string]electorDuration{
		"leader-elect-lease-duration": {&o.election.LeaseDuration, electLeaseDuration},
		"leader-elect-renew-deadline": {&o.election.RenewDeadline, electRenewDeadline},
		"leader-elect-retry-period":   {&o.election.RetryPeriod, electRetryPeriod},
	}
}

// setDefaults that depend on the store. Durations belong together: who sets one
// sets them all.
func (o *electOptions) setDefaults(fs *pflag.FlagSet) {
	all := o.durations()
	for name := range all {
		if fs.Changed(name) || o.election.ResourceLock != leaderelection.ZooKeeper {
			return
		}
	}
	for _, d := range all {
		d.value.Duration = d.ofZooKeeper
	}
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
	if err := o.validate(); err != nil {
		return err
	}
	logs.InitLogs()
	return logsapi.ValidateAndApply(o.logging, nil)
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
