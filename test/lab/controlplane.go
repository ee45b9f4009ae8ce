package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// ControlPlaneConfig says what a control plane is made of. The zero value is etcd
// and kube-apiserver.
type ControlPlaneConfig struct {
	// Binaries is the folder with etcd, kube-apiserver and the others. Default: what
	// Build returns.
	Binaries string
	// Controllers starts kube-controller-manager, with a service account for each of
	// its controllers as in a real cluster.
	Controllers bool
	// ControllerArgs are added to its command line.
	ControllerArgs []string
	// NodeLifecycle lets it judge nodes by their heartbeats. Off by default: lab nodes
	// send none, and are taken down by LoseNodes instead.
	NodeLifecycle bool
	// Scheduler starts a kube-scheduler with the default configuration. For any other
	// one, or several, see StartScheduler.
	Scheduler bool
	// APIServerArgs are added to kube-apiserver's command line.
	APIServerArgs []string
	// Progress gets word of what takes long. Default: thrown away.
	Progress io.Writer
}

// ControlPlane is a running one. Everything it consists of is a child process or
// lies in Dir.
type ControlPlane struct {
	// Dir holds data, keys and logs. It goes with Close.
	Dir string
	// Binaries is the folder with kubectl and the others.
	Binaries string
	// Client speaks as a cluster administrator, without rate limit.
	Client *kubernetes.Clientset

	config    ControlPlaneConfig
	endpoint  string
	etcd      string
	token     string
	authority []byte

	mu        sync.Mutex // guards below
	processes []*Process // in the order that they were started
	closed    bool
}

// errPortTaken: between choosing a free port and using it somebody else took it.
var errPortTaken = errors.New("port taken")

// StartControlPlane returns once the API server serves and what the configuration
// asks for runs. Ports are free loopback ports. Whoever starts one closes it.
func StartControlPlane(ctx context.Context, config ControlPlaneConfig) (*ControlPlane, error) {
	if config.Progress == nil {
		config.Progress = io.Discard
	}
	if config.Binaries == "" {
		dir, err := Build(ctx, config.Progress)
		if err != nil {
			return nil, err
		}
		config.Binaries = dir
	}
	dir, err := os.MkdirTemp("", "quorate-lab-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the control plane: %w", err)
	}
	c := &ControlPlane{Dir: dir, Binaries: config.Binaries, config: config}
	if err := c.start(ctx); err != nil {
		err = fmt.Errorf("start control plane: %w", err)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	var token [16]byte
	_, _ = rand.Read(token[:])
	c.token = hex.EncodeToString(token[:])
	if err := c.writeKeys(); err != nil {
		return err
	}
	if err := retryPorts(func() error { return c.startEtcd(ctx) }); err != nil {
		return err
	}
	if err := retryPorts(func() error { return c.startAPIServer(ctx) }); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if c.config.Controllers {
		if err := retryPorts(func() error { return c.startControllers(ctx) }); err != nil {
			return err
		}
	}
	if c.config.Scheduler {
		if _, err := c.StartScheduler(ctx, SchedulerConfig{}); err != nil {
			return err
		}
	}
	return nil
}

// retryPorts tries again with other ports where one was taken in between.
func retryPorts(start func() error) error {
	var err error
	for range 5 {
		if err = start(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

func (c *ControlPlane) startEtcd(ctx context.Context) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	data := c.path("etcd")
	if err := os.RemoveAll(data); err != nil { // of an attempt whose port was taken
		return err
	}
	client, peer := "http://"+ports[0], "http://"+ports[1]
	c.etcd = client
	_, err = c.run(ctx, "etcd", "etcd", probe{url: client + "/readyz"},
		"--data-dir="+data, "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	return err
}

func (c *ControlPlane) startAPIServer(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(ports[0], ":")
	c.endpoint = "https://" + ports[0]
	args := []string{
		"--etcd-servers=" + c.etcd,
		"--bind-address=127.0.0.1", "--secure-port=" + port, "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // it refuses loopback addresses
		"--tls-cert-file=" + c.path("apiserver.crt"), "--tls-private-key-file=" + c.path("apiserver.key"),
		"--token-auth-file=" + c.path("tokens.csv"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.path("service-accounts.key"),
		"--service-account-signing-key-file=" + c.path("service-accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--enable-admission-plugins=NodeRestriction",
		// Lab pods have no service accounts; lab nodes need nobody to take a taint off.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
		"--allow-privileged=true",
	}
	_, err = c.run(ctx, "kube-apiserver", "kube-apiserver", c.apiProbe("/readyz"), append(args, c.config.APIServerArgs...)...)
	return err
}

func (c *ControlPlane) startControllers(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(ports[0], ":")
	kubeconfig, err := c.KubeconfigAs("system:kube-controller-manager")
	if err != nil {
		return err
	}
	controllers := "*"
	if !c.config.NodeLifecycle {
		controllers = "*,-node-lifecycle-controller"
	}
	args := []string{
		"--kubeconfig=" + kubeconfig, "--controllers=" + controllers,
		"--use-service-account-credentials", "--service-account-private-key-file=" + c.path("service-accounts.key"),
		"--root-ca-file=" + c.path("apiserver.crt"),
		"--bind-address=127.0.0.1", "--secure-port=" + port, "--leader-elect=false",
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
	_, err = c.run(ctx, "kube-controller-manager", "kube-controller-manager",
		probe{url: "https://" + ports[0] + "/healthz"}, append(args, c.config.ControllerArgs...)...)
	return err
}

// connect makes the administrator's client and waits for the default namespace,
// which a fresh API server makes a moment after it is ready.
func (c *ControlPlane) connect(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	c.Client = client
	return Await(ctx, time.Minute, "the default namespace", func(ctx context.Context) error {
		_, err := client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// RESTConfig speaks as a cluster administrator (group system:masters), without
// rate limit. The caller may change its copy.
func (c *ControlPlane) RESTConfig() *rest.Config {
	return &rest.Config{
		Host:            c.endpoint,
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: slices.Clone(c.authority)},
		QPS:             -1,
	}
}

// RESTConfigAs speaks as the given user and groups: authorization, admission and
// audit see that user, as if it had logged in. system:authenticated is implied.
func (c *ControlPlane) RESTConfigAs(user string, groups ...string) *rest.Config {
	config := c.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return config
}

// Kubectl runs kubectl as an administrator and returns what it printed, standard
// error included. An error carries it too.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Binaries, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, lastLines(string(out), 20))
	}
	return string(out), nil
}

// Logs is the folder with one log per process.
func (c *ControlPlane) Logs() string { return c.path("logs") }

// KeepLogs moves the logs to dir, for whoever wants to know why a test failed.
func (c *ControlPlane) KeepLogs(dir string) error {
	return os.CopyFS(dir, os.DirFS(c.Logs()))
}

// Close ends every process and removes every file. It may be called again.
func (c *ControlPlane) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for _, p := range slices.Backward(c.processes) {
		errs = append(errs, p.Close())
	}
	c.processes = nil
	return errors.Join(append(errs, os.RemoveAll(c.Dir))...)
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.Dir, name) }

// freePorts finds loopback addresses that nobody listens on at this moment.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a loopback bind does not block
		if err != nil {
			return nil, fmt.Errorf("find a free loopback port: %w", err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
