package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/lab"
)

// startPod runs quorate's own pods, and lets all others look alive.
func (c *cluster) startPod(ctx context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
	switch pod.Labels["app.kubernetes.io/name"] {
	case "quorate":
		return c.startReplica(ctx, pod)
	case "quorate-scheduler", "quorate-extender":
		return c.startBeside(ctx, pod)
	default:
		return lab.LooksAlive(ctx, pod)
	}
}

// startReplica runs a guard's pod.
func (c *cluster) startReplica(ctx context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
	ports, err := freeAddresses(ctx, 3)
	if err != nil {
		return nil, "", err
	}
	// What a lab has otherwise: no Service that resolves, and no day to wait.
	const ours = "webhook:\n  certificates: {extraNames: [localhost], propagation: 1s}\nselfAudit: {interval: 1s}\n"
	p := &program{
		health: "http://" + ports[1] + "/readyz", gone: func() { c.service.remove(pod.Name) }, done: make(chan struct{}),
		mount: func(ctx context.Context) error { return c.mount(ctx, pod, strings.NewReplacer(), ours) },
	}
	if err := p.mount(ctx); err != nil {
		return nil, "", err
	}
	args, err := c.arguments(pod, pod.Spec.Containers[0].Args)
	if err != nil {
		return nil, "", err
	}
	args = append(args, "--webhook-bind-address="+ports[0], "--health-bind-address="+ports[1], "--metrics-bind-address="+ports[2])
	if err := c.launch(ctx, p, pod, "quorate", c.binary, args); err != nil {
		return nil, "", err
	}
	c.service.add(pod.Name, &replica{address: ports[0], health: p.health})
	c.listens(pod.Name, ports[2])
	return p, "192.0.2.2", nil
}

// metricsPort is where a pod beside a scheduler serves its metrics, which is not where it
// answers the scheduler.
const metricsPort = " metrics"

// startBeside runs a pod of the scheduler's side: an extender, and a scheduler if the
// pod has one.
func (c *cluster) startBeside(ctx context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
	ports, err := freeAddresses(ctx, 4)
	if err != nil {
		return nil, "", err
	}
	kubeconfig, err := c.kubeconfigOf(pod)
	if err != nil {
		return nil, "", err
	}
	lines := c.linesBeside(pod, ports[0], ports[2], ports[3], kubeconfig)
	p := &program{health: "http://" + ports[2] + "/readyz", done: make(chan struct{})}
	p.mount = func(ctx context.Context) error { return c.mount(ctx, pod, lines, "") }
	if err := p.mount(ctx); err != nil {
		return nil, "", err
	}
	_, port, _ := strings.Cut(ports[1], ":")
	for _, container := range pod.Spec.Containers {
		if container.Name == "extender" {
			args, err := c.arguments(pod, container.Args)
			if err == nil {
				err = c.launch(ctx, p, pod, "quorate-extender", c.binary, args)
			}
			if err != nil {
				return nil, "", err
			}
			continue
		}
		args := slices.Clone(container.Command[1:])
		for i, arg := range args {
			if strings.HasPrefix(arg, "--config=") {
				args[i] = "--config=" + c.mounted(pod, "scheduler.yaml")
			}
		}
		args = append(args, "--bind-address=127.0.0.1", "--secure-port="+port, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig)
		if err := c.launch(ctx, p, pod, "quorate-scheduler", filepath.Join(c.Binaries, container.Command[0]), args); err != nil {
			return nil, "", err
		}
	}
	c.listens(pod.Name, ports[0])
	c.listens(pod.Name+metricsPort, ports[3])
	return p, "192.0.2.3", nil
}

// linesBeside are what a lab has otherwise: each pod or node has its loopback and its
// files for itself in a cluster, a scheduler in a pod finds the pod's service account,
// and there is a minute until the next look.
func (c *cluster) linesBeside(pod *corev1.Pod, address, health, metrics, kubeconfig string) *strings.Replacer {
	const ours, theirs = "kind: QuorateConfiguration\n", "kind: KubeSchedulerConfiguration\n"
	file := c.mounted(pod, "scheduler.yaml")
	lines := []string{
		"127.0.0.1:10270", address, "127.0.0.1:10271", health, `":8081"`, health, `":8443"`, metrics, `":10272"`, metrics, ours, ours + "selfAudit: {interval: 1s}\n",
		"/etc/quorate/scheduler.yaml", file, "/etc/kubernetes/quorate/scheduler.yaml", file,
	}
	if pod.Spec.HostNetwork {
		return strings.NewReplacer(lines...)
	}
	return strings.NewReplacer(append(lines, theirs, theirs+"clientConnection: {kubeconfig: "+kubeconfig+"}\n")...)
}

// arguments are the container's, with the lab's files for the cluster's.
func (c *cluster) arguments(pod *corev1.Pod, given []string) ([]string, error) {
	kubeconfig, err := c.kubeconfigOf(pod)
	args := slices.Clone(given)
	for i, arg := range args {
		if strings.HasPrefix(arg, "--config=") {
			args[i] = "--config=" + c.mounted(pod, "quorate.yaml")
		}
	}
	return append(args, "--kubeconfig="+kubeconfig), err
}

func (c *cluster) kubeconfigOf(pod *corev1.Pod) (string, error) {
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + pod.Namespace, "system:authenticated"}
	return c.KubeconfigAs("system:serviceaccount:"+pod.Namespace+":"+pod.Spec.ServiceAccountName, groups...)
}

// mounted is the file of that key in the pod's ConfigMap.
func (c *cluster) mounted(pod *corev1.Pod, key string) string {
	return filepath.Join(c.Dir, pod.Name+"-"+key)
}

// mount writes the files of the pod's ConfigMap and of its host, if they are others
// than before, as its kubelet does.
func (c *cluster) mount(ctx context.Context, pod *corev1.Pod, lines *strings.Replacer, more string) error {
	c.mu.Lock()
	held := c.held[pod.Name]
	c.mu.Unlock()
	if held {
		return nil
	}
	files, err := c.files(ctx, pod)
	if err != nil {
		return err
	}
	for key, text := range files {
		file := c.mounted(pod, key)
		text = lines.Replace(text) + more
		if old, err := os.ReadFile(file); err == nil && string(old) == text {
			continue
		}
		if err := errors.Join(os.WriteFile(file+".next", []byte(text), 0o600), os.Rename(file+".next", file)); err != nil {
			return err
		}
	}
	return nil
}

// files that the pod's volumes hold. A host has what docs/install.md has put there.
func (c *cluster) files(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	files := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		switch {
		case volume.HostPath != nil:
			text, err := os.ReadFile(c.schedulerFile())
			if err != nil {
				return nil, err
			}
			files["scheduler.yaml"] = string(text)
		case volume.ConfigMap != nil:
			config, err := c.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, volume.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			maps.Copy(files, config.Data)
		}
	}
	return files, nil
}

// schedulerFile is what a control plane's scheduler is configured by.
func (c *cluster) schedulerFile() string { return filepath.Join(c.host(), "quorate", "scheduler.yaml") }

// hold keeps changed ConfigMaps from a pod, or no longer.
func (c *cluster) hold(pod string, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[pod] = held
}

func (c *cluster) listens(pod, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports[pod] = address
}

// at is where a pod listens, for what the test asks of it.
func (c *cluster) at(pod string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ports[pod]
}

func (c *cluster) launch(ctx context.Context, p *program, pod *corev1.Pod, name, path string, args []string) error {
	c.mu.Lock()
	c.runs++
	name = fmt.Sprintf("%s-%d", name, c.runs)
	c.mu.Unlock()
	process, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: name, Path: path, Args: args, LogDir: c.Logs(),
		Env: []string{"POD_NAME=" + pod.Name, "POD_NAMESPACE=" + pod.Namespace, "HOME=" + c.Dir},
	})
	if err != nil {
		return errors.Join(err, p.Stop(ctx))
	}
	p.processes = append(p.processes, process)
	p.watch.Go(func() {
		<-process.Done()
		p.ended.Do(func() { close(p.done) })
	})
	return nil
}

// program is what runs of a pod: its containers, which live and die together.
type program struct {
	processes []*lab.Process
	watch     sync.WaitGroup
	ended     sync.Once
	done      chan struct{}
	health    string
	// mount brings the pod's files up to date.
	mount func(context.Context) error
	gone  func()
}

func (p *program) Ready(ctx context.Context) error {
	_ = p.mount(ctx) // a kubelet that can't read them keeps what it has
	return isReady(ctx, p.health)
}

func (p *program) Done() <-chan struct{} { return p.done }

// Stop asks politely until ctx ends.
func (p *program) Stop(ctx context.Context) error {
	if p.gone != nil {
		defer p.gone()
	}
	for _, process := range p.processes {
		_ = process.Signal(syscall.SIGTERM)
	}
	var errs []error
	for _, process := range p.processes {
		_ = process.Wait(ctx)
		errs = append(errs, process.Close())
	}
	p.watch.Wait()
	return errors.Join(errs...)
}

func freeAddresses(ctx context.Context, n int) ([]string, error) {
	var addresses []string
	var open []net.Listener
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		addresses = append(addresses, l.Addr().String())
	}
	for _, l := range open {
		_ = l.Close()
	}
	return addresses, nil
}
