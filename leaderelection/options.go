package leaderelection

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/config"
	"k8s.io/component-base/config/options"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// The values of --leader-elect-resource-lock.
const (
	// Leases is client-go's own.
	Leases = resourcelock.LeasesResourceLock
	// ZooKeeper is the Lock. Where there is a Lease, too, a tombstone is left in it.
	ZooKeeper = "zookeeper"
	// LeasesAndZooKeeper holds both, the Lease first: the step between the two of a
	// migration.
	LeasesAndZooKeeper = "leases-and-zookeeper"
)

const flagPrefix = "leader-elect-zookeeper-"

// Options are the flags beside component-base's LeaderElectionConfiguration, which
// they do not repeat. NewOptions has the defaults.
type Options struct {
	// Servers is a connection string: host:port,host:port/chroot.
	Servers string
	// SessionTimeout to ask for.
	SessionTimeout time.Duration
	// Tick of the ensemble.
	Tick time.Duration
	// StopTime of the work.
	StopTime time.Duration
	// StopsFirst as in Config.
	StopsFirst bool
	// UsesRun says that the program elects by Run, which can't hold LeasesAndZooKeeper:
	// the elector's durations are no part of what the session timeout must allow for.
	UsesRun bool
	// Root of all nodes.
	Root string
	// AuthFile holds SCHEME:CREDENTIAL on one line, as digest:user:password.
	AuthFile string
	// CAFile, CertFile and KeyFile are PEM files. Any of them turns TLS on.
	CAFile, CertFile, KeyFile string
	// ServerName that the servers' certificates are checked for.
	ServerName string
	// SealLease leaves a tombstone in the Lease, where there is one.
	SealLease bool
}

// NewOptions returns the defaults, with which the LeaderElector's own durations work.
func NewOptions() *Options {
	return &Options{
		SessionTimeout: DefaultSessionTimeout, Tick: DefaultTick, StopTime: DefaultStopTime, Root: DefaultRoot, SealLease: true,
	}
}

// AddFlags binds the flags of both: those of component-base that belong to c, and
// our own.
func (o *Options) AddFlags(fs *pflag.FlagSet, c *config.LeaderElectionConfiguration) {
	options.BindLeaderElectionFlags(c, fs)
	fs.Lookup("leader-elect-resource-lock").Usage = fmt.Sprintf(
		"Where the election is held: %q, %q, or %q, the step of a migration between the two.", Leases, ZooKeeper, LeasesAndZooKeeper)
	fs.StringVar(&o.Servers, flagPrefix+"servers", o.Servers, "ZooKeeper servers, as host:port,host:port/chroot.")
	fs.DurationVar(&o.SessionTimeout, flagPrefix+"session-timeout", o.SessionTimeout, "Session timeout to ask for; a leader that crashes is replaced after about as long. The server allows 2 to 20 of its ticks.")
	fs.DurationVar(&o.Tick, flagPrefix+"tick", o.Tick, "The ensemble's tickTime. Never less than it.")
	fs.DurationVar(&o.StopTime, flagPrefix+"stop-time", o.StopTime, "How long the work may take to stop once leadership is lost.")
	fs.StringVar(&o.Root, flagPrefix+"root", o.Root, "Node that all elections are below.")
	fs.StringVar(&o.AuthFile, flagPrefix+"auth-file", o.AuthFile, "File with the credentials on one line: digest:USER:PASSWORD.")
	fs.StringVar(&o.CAFile, flagPrefix+"tls-ca-file", o.CAFile, "Authorities that the servers' certificates are checked by. Turns TLS on.")
	fs.StringVar(&o.CertFile, flagPrefix+"tls-cert-file", o.CertFile, "Certificate that the servers know us by. Turns TLS on.")
	fs.StringVar(&o.KeyFile, flagPrefix+"tls-key-file", o.KeyFile, "Private key of the certificate.")
	fs.StringVar(&o.ServerName, flagPrefix+"tls-server-name", o.ServerName, "Name that the servers' certificates are checked for, instead of the host's.")
	fs.BoolVar(&o.SealLease, flagPrefix+"seal-lease", o.SealLease, "Leave a tombstone in the Lease of the same name before leading by ZooKeeper, so that a replica that knows only the Lease cannot lead beside this one.")
}

// Validate reports all problems of both at once, each with its flag and the fix.
func (o *Options) Validate(c *config.LeaderElectionConfiguration) error {
	if !c.LeaderElect {
		return nil
	}
	flag := func(name string) *field.Path { return field.NewPath("--" + name) }
	errs := validateDurations(c, flag)
	locks := []string{Leases, ZooKeeper, LeasesAndZooKeeper}
	if !slices.Contains(locks, c.ResourceLock) {
		errs = append(errs, field.NotSupported(flag("leader-elect-resource-lock"), c.ResourceLock, locks))
	}
	if o.UsesRun && c.ResourceLock == LeasesAndZooKeeper {
		errs = append(errs, field.Invalid(flag("leader-elect-resource-lock"), c.ResourceLock, fmt.Sprintf("this program holds one store at a time: set %q or %q", Leases, ZooKeeper)))
	}
	if c.ResourceName == "" {
		errs = append(errs, field.Required(flag("leader-elect-resource-name"), "name the election"))
	}
	if c.ResourceNamespace == "" {
		errs = append(errs, field.Required(flag("leader-elect-resource-namespace"), "name the election's namespace"))
	}
	if c.ResourceLock != Leases {
		errs = append(errs, o.validate(c, flag)...)
	}
	return errs.ToAggregate()
}

func validateDurations(c *config.LeaderElectionConfiguration, flag func(string) *field.Path) (errs field.ErrorList) {
	lease, renew, retry := c.LeaseDuration.Duration, c.RenewDeadline.Duration, c.RetryPeriod.Duration
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"leader-elect-lease-duration", lease}, {"leader-elect-renew-deadline", renew}, {"leader-elect-retry-period", retry}} {
		if d.value <= 0 {
			errs = append(errs, field.Invalid(flag(d.name), d.value.String(), "must be greater than zero"))
		}
	}
	if lease <= renew {
		errs = append(errs, field.Invalid(flag("leader-elect-lease-duration"), lease.String(), fmt.Sprintf("must be greater than --leader-elect-renew-deadline, %v", renew)))
	}
	if least := time.Duration(leaderelection.JitterFactor * float64(retry)); renew <= least {
		errs = append(errs, field.Invalid(flag("leader-elect-renew-deadline"), renew.String(), fmt.Sprintf("must be greater than %v, %v times --leader-elect-retry-period", least, leaderelection.JitterFactor)))
	}
	if lease%time.Second != 0 {
		errs = append(errs, field.Invalid(flag("leader-elect-lease-duration"), lease.String(), "must be whole seconds: the elector cuts off the rest"))
	}
	return errs
}

// answerTime is what an API server may at least take to answer a renewal that is relied on.
const answerTime = time.Second

func (o *Options) validate(c *config.LeaderElectionConfiguration, flag func(string) *field.Path) (errs field.ErrorList) {
	own := func(name string) *field.Path { return flag(flagPrefix + name) }
	if o.Servers == "" {
		errs = append(errs, field.Required(own("servers"), "name at least one ZooKeeper server"))
	} else if _, _, err := zookeeper.ParseServers(o.Servers); err != nil {
		errs = append(errs, field.Invalid(own("servers"), o.Servers, err.Error()))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, field.Required(own("tls-key-file"), "a certificate and its key go together: set --"+flagPrefix+"tls-cert-file, too, or neither"))
	}
	if o.Tick <= 0 || o.SessionTimeout <= 0 || o.StopTime < 0 {
		errs = append(errs, field.Invalid(own("tick"), o.Tick.String(), "tick and session timeout must be greater than zero, and the stop time not less"))
		return errs
	}
	if !o.StopsFirst && !o.UsesRun && o.StopTime >= c.RenewDeadline.Duration {
		errs = append(errs, field.Invalid(own("stop-time"), o.StopTime.String(), fmt.Sprintf("must be less than --leader-elect-renew-deadline, %v, in which the lock is released", c.RenewDeadline.Duration)))
	}
	session := SessionConfig{Servers: "x", Timeout: o.SessionTimeout, Tick: o.Tick, Root: o.Root}
	if err := session.complete(); err != nil {
		errs = append(errs, field.Invalid(own("root"), o.Root, err.Error()))
		return errs
	}
	cfg := Config{RenewDeadline: c.RenewDeadline.Duration, RetryPeriod: c.RetryPeriod.Duration, StopTime: o.StopTime}
	b := budget{timeout: o.SessionTimeout, tick: o.Tick, interval: session.RenewInterval, reserve: reserveOf(&cfg, o.UsesRun)}
	elector := "--leader-elect-retry-period + --leader-elect-renew-deadline + "
	if o.UsesRun {
		elector = ""
	}
	if lease, least := c.LeaseDuration.Duration, b.reserve+answerTime; c.ResourceLock == LeasesAndZooKeeper && lease < least {
		errs = append(errs, field.Invalid(flag("leader-elect-lease-duration"), lease.String(), fmt.Sprintf(
			"must be at least %v = %s--%sstop-time + %v for an answer, so that the Lease lasts until the work has stopped", least, elector, flagPrefix, answerTime)))
	}
	if err := b.check(); err != nil {
		errs = append(errs, field.Invalid(own("session-timeout"), o.SessionTimeout.String(), fmt.Sprintf(
			"must be at least %v = %s--%sstop-time + %v for three proofs + --%stick; lengthen it, or shorten the others, which costs nothing: renewals ask nobody",
			b.need(), elector, flagPrefix, b.proofs(), flagPrefix)))
	}
	return errs
}

var errNoKubeconfig = errors.New("a Lease needs a client configuration")
