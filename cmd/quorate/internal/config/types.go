package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // logging.format: json
)

// APIVersion and Kind of the document.
const (
	APIVersion = "config.quorate.io/v1alpha1"
	Kind       = "QuorateConfiguration"
)

// QuorateConfiguration is all that `quorate serve` can be told. Default gives the
// values that hold where a field is absent.
type QuorateConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// ClientConnection is how the API server is reached.
	ClientConnection ClientConnection `json:"clientConnection"`
	// Logging is component-base's: format, verbosity, vmodule. The verbosity is
	// reloaded.
	Logging logsapi.LoggingConfiguration `json:"logging"`
	// Health serves /healthz, /livez and /readyz without TLS, and tells nothing else.
	Health Server `json:"health"`
	// Metrics serves /metrics.
	Metrics Metrics `json:"metrics"`
	// Webhook is the eviction guard.
	Webhook Webhook `json:"webhook"`
	// StatusController keeps the status of Ensembles.
	StatusController StatusController `json:"statusController"`
	// Extender is the scheduler extender. It runs beside its scheduler, never behind
	// a Service.
	Extender Extender `json:"extender"`
	// SelfAudit looks whether what the cluster holds of us is as it should be. Its
	// interval is reloaded.
	SelfAudit SelfAudit `json:"selfAudit"`
	// Shutdown is how the process ends.
	Shutdown Shutdown `json:"shutdown"`
}

// ClientConnection is how the API server is reached.
type ClientConnection struct {
	// Kubeconfig names a file. Default: the one of the pod's service account.
	Kubeconfig string `json:"kubeconfig"`
	// QPS and Burst bound the requests, but not those that a decision of the guard
	// waits for.
	QPS   float32 `json:"qps"`
	Burst int     `json:"burst"`
}

// Server is a listener without TLS.
type Server struct {
	// BindAddress is host:port; empty: not served.
	BindAddress string `json:"bindAddress"`
}

// Metrics is where metrics are served.
type Metrics struct {
	// BindAddress is host:port; empty: not served.
	BindAddress string `json:"bindAddress"`
	// Secure serves TLS, to those alone whom the API server lets get /metrics.
	Secure bool `json:"secure"`
}

// Webhook is the eviction guard's server.
type Webhook struct {
	// Enabled switches it.
	Enabled bool `json:"enabled"`
	// BindAddress is host:port.
	BindAddress string `json:"bindAddress"`
	// Certificates that it serves with.
	Certificates Certificates `json:"certificates"`
	// ConfigurationName of the ValidatingWebhookConfiguration and the
	// MutatingWebhookConfiguration that name this server.
	ConfigurationName string `json:"configurationName"`
	// Deadline of a decision, below the timeoutSeconds of the configuration.
	Deadline metav1.Duration `json:"deadline"`
}

// CertificateSource says where a serving certificate comes from.
type CertificateSource string

const (
	// SelfManaged certificates are made, rotated and injected by us.
	SelfManaged CertificateSource = "SelfManaged"
	// Files are somebody else's: cert-manager's, a service CA's, your own.
	Files CertificateSource = "Files"
)

// Certificates is where the serving certificate comes from.
type Certificates struct {
	// Source of them: SelfManaged or Files.
	Source CertificateSource `json:"source"`
	// Directory of tls.crt and tls.key, for Files. They are read again when they change.
	Directory string `json:"directory"`
	// SecretName of the Secret that SelfManaged keeps them in, in our namespace.
	SecretName string `json:"secretName"`
	// ServiceName that the API server calls, for SelfManaged.
	ServiceName string `json:"serviceName"`
	// ExtraNames that API servers call us by besides the Service's, for SelfManaged:
	// where the webhook configuration names a URL.
	ExtraNames []string `json:"extraNames"`
	// CAValidity and Validity of what SelfManaged makes.
	CAValidity metav1.Duration `json:"caValidity"`
	Validity   metav1.Duration `json:"validity"`
	// RenewBefore is how long before its end a certificate or a CA is followed by the
	// next one.
	RenewBefore metav1.Duration `json:"renewBefore"`
	// Propagation is for how long a new CA was seen in every caBundle before the first
	// certificate by it is served: as long as the slowest API server takes to hear of it.
	Propagation metav1.Duration `json:"propagation"`
}

// StatusController keeps Ensemble.status true, on one elected replica.
type StatusController struct {
	// Enabled switches it.
	Enabled bool `json:"enabled"`
	// LeaderElection of the replica that writes. It is reloaded.
	LeaderElection LeaderElection `json:"leaderElection"`
}

// LeaderElection has the fields of component-base's LeaderElectionConfiguration, and
// ours.
type LeaderElection struct {
	// LeaderElect is false where there is one replica only.
	LeaderElect bool `json:"leaderElect"`
	// LeaseDuration, RenewDeadline and RetryPeriod have client-go's meaning.
	LeaseDuration metav1.Duration `json:"leaseDuration"`
	RenewDeadline metav1.Duration `json:"renewDeadline"`
	RetryPeriod   metav1.Duration `json:"retryPeriod"`
	// ResourceLock is leases or zookeeper. Never a ZooKeeper that we guard.
	ResourceLock string `json:"resourceLock"`
	// ResourceName and ResourceNamespace name the lock. The namespace defaults to ours.
	ResourceName      string `json:"resourceName"`
	ResourceNamespace string `json:"resourceNamespace"`
	// ZooKeeper is for resourceLock zookeeper.
	ZooKeeper ZooKeeper `json:"zooKeeper"`
}

// ZooKeeper is the ensemble that elections run on.
type ZooKeeper struct {
	// Servers is a connection string: host:port,host:port/chroot.
	Servers string `json:"servers"`
	// Root of the tree that the locks are in. Default: the lock's own.
	Root string `json:"root"`
	// SessionTimeout and Tick are the session's, and the servers' tickTime.
	SessionTimeout metav1.Duration `json:"sessionTimeout"`
	Tick           metav1.Duration `json:"tick"`
	// AuthFile holds SCHEME:CREDENTIAL on one line, as digest:user:password.
	AuthFile string `json:"authFile"`
	// TLS is used where one of its fields is set.
	TLS ClientTLS `json:"tls"`
}

// ClientTLS is a client's side of TLS.
type ClientTLS struct {
	CAFile     string `json:"caFile"`
	CertFile   string `json:"certFile"`
	KeyFile    string `json:"keyFile"`
	ServerName string `json:"serverName"`
}

// Extender is the scheduler extender's server.
type Extender struct {
	// Enabled switches it.
	Enabled bool `json:"enabled"`
	// BindAddress is host:port. Loopback, beside the scheduler, needs no TLS.
	BindAddress string `json:"bindAddress"`
	// TLS makes it serve TLS; with a clientCAFile, only to clients that bear a
	// certificate by it. Files are read again when they change.
	TLS ServerTLS `json:"tls"`
	// BindLandingTimeout is how long a bind that was given up on may still land: at
	// least the API server's request timeout.
	BindLandingTimeout metav1.Duration `json:"bindLandingTimeout"`
	// SchedulerConfiguration is the file that the scheduler beside us is configured by:
	// the self-audit looks whether it asks us as it should. Empty: not looked at.
	SchedulerConfiguration string `json:"schedulerConfiguration"`
	// SchedulerLease is namespace/name of the Lease that its scheduler is elected by.
	SchedulerLease string `json:"schedulerLease"`
}

// ServerTLS is a server's side of TLS.
type ServerTLS struct {
	CertFile     string `json:"certFile"`
	KeyFile      string `json:"keyFile"`
	ClientCAFile string `json:"clientCAFile"`
}

// SelfAudit looks at our own configuration in the cluster.
type SelfAudit struct {
	// Enabled switches it.
	Enabled bool `json:"enabled"`
	// Interval between two looks.
	Interval metav1.Duration `json:"interval"`
}

// Shutdown is how the process ends.
type Shutdown struct {
	// Delay between dropping readiness and closing the listeners: as long as the
	// cluster takes to send nobody here any more.
	Delay metav1.Duration `json:"delay"`
	// Timeout of the requests that are then still running.
	Timeout metav1.Duration `json:"timeout"`
}

// Default is the configuration of an empty file.
func Default() *QuorateConfiguration {
	c := &QuorateConfiguration{
		TypeMeta:         metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind},
		ClientConnection: ClientConnection{QPS: 50, Burst: 100},
		Health:           Server{BindAddress: ":8081"},
		Metrics:          Metrics{BindAddress: ":8443", Secure: true},
		Webhook: Webhook{
			Enabled:           true,
			BindAddress:       ":9443",
			ConfigurationName: "quorate-guard",
			Deadline:          span(4500 * time.Millisecond),
			Certificates: Certificates{
				Source:      SelfManaged,
				Directory:   "/etc/quorate/tls",
				SecretName:  "quorate-webhook-tls",
				ServiceName: "quorate-webhook",
				CAValidity:  span(10 * 365 * 24 * time.Hour),
				Validity:    span(365 * 24 * time.Hour),
				RenewBefore: span(90 * 24 * time.Hour),
				Propagation: span(time.Minute),
			},
		},
		StatusController: StatusController{
			Enabled: true,
			LeaderElection: LeaderElection{
				LeaderElect:   true,
				LeaseDuration: span(15 * time.Second),
				RenewDeadline: span(10 * time.Second),
				RetryPeriod:   span(2 * time.Second),
				ResourceLock:  "leases",
				ResourceName:  "quorate-status",
				ZooKeeper:     ZooKeeper{SessionTimeout: span(30 * time.Second), Tick: span(2 * time.Second)},
			},
		},
		Extender: Extender{
			BindAddress:        "127.0.0.1:10270",
			BindLandingTimeout: span(time.Minute),
			SchedulerLease:     "kube-system/kube-scheduler",
		},
		SelfAudit: SelfAudit{Enabled: true, Interval: span(time.Minute)},
		Shutdown:  Shutdown{Delay: span(5 * time.Second), Timeout: span(15 * time.Second)},
	}
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
	return c
}

func span(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
