package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

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
	if err := c.installAPI(ctx); err != nil {
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
	if _, err := c.StartScheduler(ctx, lab.SchedulerConfig{Configuration: asksExtender(c.extender)}); err != nil {
		return err
	}
	s.out.say("All of it serves after %s: %d hosts in %d zones.", time.Since(began).Round(100*time.Millisecond), hostsPerZone*len(zones), len(zones))
	return nil
}

// installAPI makes the Ensemble known, and waits until it is served.
func (c *cluster) installAPI(ctx context.Context) error {
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "-f", filepath.Join(root, "deploy", deploy.EnsembleCRD)); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd/ensembles.quorate.io"); err != nil {
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
	if err := lab.BuildProgram(ctx, c.binary, "./cmd/quorate"); err != nil {
		return err
	}
	var err error
	if c.extender, err = freeAddress(ctx); err != nil {
		return err
	}
	process, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: "quorate-extender", Path: c.binary, LogDir: c.Logs(),
		Args: []string{"serve", "--extender", "--extender-bind-address=" + c.extender, "--kubeconfig=" + c.Kubeconfig()},
	})
	if err != nil {
		return err
	}
	s.onClose(process)
	return lab.Await(ctx, time.Minute, "the extender", func(ctx context.Context) error {
		select {
		case <-process.Done():
			return lab.Stop(errors.New("it ended; see " + process.Log()))
		default:
			return answers(ctx, "http://"+c.extender+"/readyz")
		}
	})
}

// asksExtender is the scheduler's configuration: the extenders entry is all of it.
func asksExtender(address string) *schedulerv1.KubeSchedulerConfiguration {
	return &schedulerv1.KubeSchedulerConfiguration{Extenders: []schedulerv1.Extender{{
		URLPrefix: "http://" + address, FilterVerb: "filter", PrioritizeVerb: "prioritize", Weight: 10,
		NodeCacheCapable: true, HTTPTimeout: metav1.Duration{Duration: time.Second},
		ManagedResources: []schedulerv1.ExtenderManagedResource{{Name: voterResource, IgnoredByScheduler: true}},
	}}}
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
