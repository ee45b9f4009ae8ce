package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// Validate tells everything that is wrong with the values, across fields too.
func (c *QuorateConfiguration) Validate() []Problem {
	v := &validator{}
	v.positive("clientConnection.qps", float64(c.ClientConnection.QPS))
	v.positive("clientConnection.burst", float64(c.ClientConnection.Burst))
	for _, err := range logsapi.Validate(&c.Logging, nil, field.NewPath("logging")) {
		v.add(err.Field, "%s", err.ErrorBody())
	}
	v.address("health.bindAddress", c.Health.BindAddress, true)
	v.address("metrics.bindAddress", c.Metrics.BindAddress, true)
	v.webhook(&c.Webhook)
	if c.StatusController.Enabled {
		v.election("statusController.leaderElection.", &c.StatusController.LeaderElection)
	}
	v.extender(&c.Extender)
	v.between("selfAudit.interval", c.SelfAudit.Interval, time.Second, time.Hour)
	v.between("shutdown.delay", c.Shutdown.Delay, 0, 10*time.Minute)
	v.between("shutdown.timeout", c.Shutdown.Timeout, time.Second, 10*time.Minute)
	if !c.Webhook.Enabled && !c.StatusController.Enabled && !c.Extender.Enabled {
		v.add("webhook.enabled", "nothing is left to serve: enable one of webhook, statusController and extender")
	}
	return v.problems
}

type validator struct{ problems []Problem }

func (v *validator) add(field, format string, args ...any) {
	v.problems = append(v.problems, Problem{Field: field, What: fmt.Sprintf(format, args...)})
}

func (v *validator) positive(field string, n float64) {
	if n <= 0 {
		v.add(field, "%v must be above 0", n)
	}
}

func (v *validator) required(field, value string) {
	if value == "" {
		v.add(field, "must not be empty")
	}
}

func (v *validator) between(field string, d metav1.Duration, low, high time.Duration) {
	if d.Duration < low || d.Duration > high {
		v.add(field, "%v must be between %v and %v", d.Duration, low, high)
	}
}

func (v *validator) address(field, address string, optional bool) {
	if address == "" && optional {
		return
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		v.add(field, "%q is not host:port, e.g. \":9443\"", address)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		v.add(field, "%q has no port between 0 and 65535", address)
	}
}

func (v *validator) webhook(w *Webhook) {
	if !w.Enabled {
		return
	}
	v.address("webhook.bindAddress", w.BindAddress, false)
	v.required("webhook.configurationName", w.ConfigurationName)
	v.between("webhook.deadline", w.Deadline, 100*time.Millisecond, 29*time.Second)
	c, at := w.Certificates, "webhook.certificates."
	switch c.Source {
	case SelfManaged:
		v.required(at+"secretName", c.SecretName)
		v.required(at+"serviceName", c.ServiceName)
		if c.RenewBefore.Duration >= c.Validity.Duration {
			v.add(at+"renewBefore", "%v must be below validity (%v), or every certificate is renewed at once", c.RenewBefore.Duration, c.Validity.Duration)
		}
		if c.Validity.Duration > c.CAValidity.Duration {
			v.add(at+"validity", "%v must not be above caValidity (%v)", c.Validity.Duration, c.CAValidity.Duration)
		}
		if c.Propagation.Duration >= c.RenewBefore.Duration {
			v.add(at+"propagation", "%v must be below renewBefore (%v)", c.Propagation.Duration, c.RenewBefore.Duration)
		}
	case Files:
		v.required(at+"directory", c.Directory)
	default:
		v.add(at+"source", "%q is not known: write %s or %s", c.Source, SelfManaged, Files)
	}
}

func (v *validator) election(at string, e *LeaderElection) {
	if !e.LeaderElect {
		return
	}
	v.required(at+"resourceName", e.ResourceName)
	if e.LeaseDuration.Duration <= e.RenewDeadline.Duration {
		v.add(at+"leaseDuration", "%v must be above renewDeadline (%v)", e.LeaseDuration.Duration, e.RenewDeadline.Duration)
	}
	if e.LeaseDuration.Duration%time.Second != 0 {
		v.add(at+"leaseDuration", "%v must be whole seconds: client-go cuts the rest off", e.LeaseDuration.Duration)
	}
	if float64(e.RenewDeadline.Duration) <= 1.2*float64(e.RetryPeriod.Duration) {
		v.add(at+"renewDeadline", "%v must be above 1.2 x retryPeriod (%v)", e.RenewDeadline.Duration, e.RetryPeriod.Duration)
	}
	if e.RetryPeriod.Duration <= 0 {
		v.add(at+"retryPeriod", "%v must be above 0", e.RetryPeriod.Duration)
	}
	switch e.ResourceLock {
	case "leases":
		if e.ZooKeeper.Servers != "" {
			v.add(at+"zooKeeper.servers", "goes with resourceLock: zookeeper; set it, or remove the servers")
		}
	case "zookeeper":
		v.servers(at+"zooKeeper.servers", e.ZooKeeper.Servers)
		v.between(at+"zooKeeper.sessionTimeout", e.ZooKeeper.SessionTimeout, time.Second, 10*time.Minute)
		v.between(at+"zooKeeper.tick", e.ZooKeeper.Tick, 10*time.Millisecond, time.Minute)
	default:
		v.add(at+"resourceLock", "%q is not known: write leases or zookeeper", e.ResourceLock)
	}
}

// servers checks a connection string: host:port,host:port/chroot.
func (v *validator) servers(field, servers string) {
	hosts, chroot, rooted := strings.Cut(servers, "/")
	if rooted && chroot == "" {
		v.add(field, "%q ends in an empty chroot: remove the slash", servers)
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(strings.TrimSpace(host)); err != nil {
			v.add(field, "%q is not host:port; write e.g. zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181/chroot", host)
		}
	}
}

func (v *validator) extender(e *Extender) {
	if !e.Enabled {
		return
	}
	v.address("extender.bindAddress", e.BindAddress, false)
	v.between("extender.bindLandingTimeout", e.BindLandingTimeout, time.Second, time.Hour)
	if (e.TLS.CertFile == "") != (e.TLS.KeyFile == "") {
		v.add("extender.tls.certFile", "certFile and keyFile go together")
	}
	if e.TLS.ClientCAFile != "" && e.TLS.CertFile == "" {
		v.add("extender.tls.clientCAFile", "needs certFile and keyFile")
	}
	if host, _, err := net.SplitHostPort(e.BindAddress); err == nil && e.TLS.CertFile == "" {
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			v.add("extender.bindAddress", "%q is not loopback and has no TLS: bind 127.0.0.1, beside the scheduler, or set extender.tls", e.BindAddress)
		}
	}
	if lease := e.SchedulerLease; lease != "" && strings.Count(lease, "/") != 1 {
		v.add("extender.schedulerLease", "%q is not namespace/name", lease)
	}
}
