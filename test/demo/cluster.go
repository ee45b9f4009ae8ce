package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/test/lab"
)

// cluster is what runs of Kubernetes.
type cluster struct {
	*lab.ControlPlane
	runner    *lab.Runner
	servers   *lab.ZooKeeperPods
	ensembles rest.Interface
	extender  string // its host:port
	guard     string // its host:port
	ca        []byte // of the guard's certificate
	binary    string // quorate
}

var zones = []string{"zone-a", "zone-b", "zone-c"}

const (
	hostsPerZone = 3
	replicas     = 5
)

// startCluster starts a control plane whose scheduler asks the extender, and nine
// nodes in three zones.
func startCluster(ctx context.Context, s *stage) error {
	binaries, err := s.controlPlane(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	s.out.say("Starting etcd, kube-apiserver and kube-controller-manager.")
	plane, err := lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Binaries: binaries, Controllers: true})
	if err != nil {
		return err
	}
	s.onClose(plane)
	s.cluster, s.kubeconfig = &cluster{ControlPlane: plane}, plane.Kubeconfig()
	c := s.cluster
	if err := c.install(ctx); err != nil {
		return err
	}
	if err := c.CreateNodes(ctx, lab.Hosts(hostsPerZone, zones...)...); err != nil {
		return err
	}
	if err := c.startRunner(ctx, s); err != nil {
		return err
	}
	s.out.say("Starting quorate serve --extender, and kube-scheduler, which asks it where voters may go.")
	if err := c.startExtender(ctx, s); err != nil {
		return err
	}
	configuration, err := asksExtender(c.extender)
	if err != nil {
		return err
	}
	if _, err := c.StartScheduler(ctx, lab.SchedulerConfig{Configuration: configuration}); err != nil {
		return err
	}
	s.out.say("All of it serves after %s: %d hosts in %d zones.", time.Since(began).Round(100*time.Millisecond), hostsPerZone*len(zones), len(zones))
	return nil
}

// installed are the files of deploy/ that the scheduler's side needs, in order.
var installed = []string{
	deploy.EnsembleCRD, "base/namespace.yaml", "components/extender-role/clusterrole.yaml", "components/scheduler/rbac.yaml",
	deploy.VoterPolicy,
}

// install applies what a user applies: the API, the extender's rights, and the
// policy that makes the scheduler ask about members, whatever their chart says, in
// namespaces that bear the label.
func (c *cluster) install(ctx context.Context) error {
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	for _, file := range installed {
		if _, err := c.Kubectl(ctx, "apply", "-f", filepath.Join(root, "deploy", file)); err != nil {
			return err
		}
		if file != deploy.EnsembleCRD {
			continue
		}
		if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd/ensembles.quorate.io"); err != nil {
			return err
		}
	}
	if _, err := c.Kubectl(ctx, "label", "namespace", namespace, deploy.GuardLabel+"=enabled"); err != nil {
		return err
	}
	c.ensembles, err = membership.NewClient(c.RESTConfig())
	return err
}

func (c *cluster) startRunner(ctx context.Context, s *stage) (err error) {
	if c.servers, err = lab.NewZooKeeperPods(lab.ZooKeeperConfig{Voters: replicas}, nil); err != nil {
		return err
	}
	s.onClose(c.servers)
	if c.runner, err = c.StartRunner(ctx, c.servers.Start); err != nil {
		return err
	}
	s.onClose(c.runner)
	return nil
}

// startExtender builds this program's own binary and runs it, as a user would.
func (c *cluster) startExtender(ctx context.Context, s *stage) error {
	c.binary = filepath.Join(c.Dir, "quorate")
	if err := lab.BuildProgram(ctx, s.out.progress(), c.binary, "./cmd/quorate"); err != nil {
		return err
	}
	kubeconfig, err := c.KubeconfigAs("system:serviceaccount:quorate-system:quorate-scheduler",
		"system:serviceaccounts", "system:serviceaccounts:quorate-system")
	if err != nil {
		return err
	}
	if c.extender, err = freeAddress(ctx); err != nil {
		return err
	}
	text, err := shipped("quorate.yaml")
	if err != nil {
		return err
	}
	config := filepath.Join(c.Dir, "quorate.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	process, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: "quorate-extender", Path: c.binary, LogDir: c.Logs(),
		Args: []string{"serve", "--config=" + config, "--extender-bind-address=" + c.extender, "--metrics-bind-address=", "--kubeconfig=" + kubeconfig},
	})
	if err != nil {
		return err
	}
	s.onClose(process)
	err = lab.Await(ctx, time.Minute, "the extender", func(ctx context.Context) error {
		select {
		case <-process.Done():
			return lab.Stop(errors.New("it ended"))
		default:
			return answers(ctx, "http://"+c.extender+"/readyz")
		}
	})
	if err != nil {
		log, _ := os.ReadFile(process.Log())
		return fmt.Errorf("%w; the end of its log:\n%s", err, log[max(0, len(log)-2000):])
	}
	return nil
}

// asksExtender is the scheduler's configuration as it is shipped, on this port.
func asksExtender(address string) (*schedulerv1.KubeSchedulerConfiguration, error) {
	text, err := shipped("scheduler.yaml")
	if err != nil {
		return nil, err
	}
	var full schedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(text, &full); err != nil {
		return nil, fmt.Errorf("read scheduler.yaml: %w", err)
	}
	if len(full.Extenders) != 1 {
		return nil, fmt.Errorf("read scheduler.yaml: it has %d extenders", len(full.Extenders))
	}
	full.Extenders[0].URLPrefix = "http://" + address
	return &schedulerv1.KubeSchedulerConfiguration{Extenders: full.Extenders}, nil
}

// shipped is a file of the ConfigMap that goes with the scheduler.
func shipped(file string) ([]byte, error) {
	const manifest = "components/scheduler/configuration.yaml"
	text, err := deploy.Files.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	var config corev1.ConfigMap
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifest, err)
	}
	if config.Data[file] == "" {
		return nil, fmt.Errorf("read %s: it has no %s", manifest, file)
	}
	return []byte(config.Data[file]), nil
}

// freeAddress is one of loopback that nobody listens on at this moment.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return nil
}
