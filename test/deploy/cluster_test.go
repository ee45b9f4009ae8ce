package deploy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/dynamic"

	"github.com/quorate/quorate/test/lab"
)

const serviceAccount = "system:serviceaccount:quorate-system:quorate"

// cluster is a lab in which quorate's own pods run, as the manifests say: their
// arguments, their ConfigMap, their service account.
type cluster struct {
	*lab.ControlPlane
	dynamic dynamic.Interface
	binary  string
	service *service
	audit   string
	repo    string
	overlay string

	mu   sync.Mutex // guards below
	runs int
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived] # a watch is told when it starts
rules:
- level: Metadata
`

func start(t *testing.T) *cluster {
	t.Helper()
	ctx := t.Context()
	repo, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &cluster{repo: repo, audit: filepath.Join(dir, "audit.log"), binary: filepath.Join(dir, "quorate")}
	build := exec.CommandContext(ctx, "go", "build", "-o", c.binary, "./cmd/quorate")
	build.Dir = repo
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ControlPlane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{
		Controllers: true, Scheduler: true, Progress: t.Output(),
		APIServerArgs: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + c.audit, "--audit-log-mode=blocking"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs(t)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if c.dynamic, err = dynamic.NewForConfig(c.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	if c.service, err = newService(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.service.close)
	c.writeOverlay(t)
	if err := c.CreateNodes(ctx, lab.Hosts(2, "a", "b", "c")...); err != nil {
		t.Fatal(err)
	}
	c.volumes(t)
	runner, err := c.StartRunner(ctx, c.startPod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	return c
}

// volumes are there for the example's claims: the lab has nobody who would make any.
func (c *cluster) volumes(t *testing.T) {
	t.Helper()
	for i := range 5 {
		volume := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("volume-%d", i)},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
				AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
			},
		}
		if _, err := c.Client.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) showLogs(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join(c.Logs(), "quorate*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		t.Logf("%s ends:\n%s", filepath.Base(log), text[max(0, len(text)-6000):])
	}
}

// startPod runs quorate's own pods, and lets all others look alive.
func (c *cluster) startPod(ctx context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
	if pod.Labels["app.kubernetes.io/name"] != "quorate" {
		return lab.LooksAlive(ctx, pod)
	}
	config, err := c.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, "quorate", metav1.GetOptions{})
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(c.Dir, pod.Name+".yaml")
	// What a lab has otherwise: no Service that resolves, and no day to wait.
	text := config.Data["quorate.yaml"] + "webhook:\n  certificates: {extraNames: [localhost], propagation: 1s}\nselfAudit: {interval: 1s}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + pod.Namespace, "system:authenticated"}
	kubeconfig, err := c.KubeconfigAs("system:serviceaccount:"+pod.Namespace+":"+pod.Spec.ServiceAccountName, groups...)
	if err != nil {
		return nil, "", err
	}
	ports, err := freeAddresses(ctx, 3)
	if err != nil {
		return nil, "", err
	}
	args := slices.Clone(pod.Spec.Containers[0].Args)
	for i, arg := range args {
		if strings.HasPrefix(arg, "--config=") {
			args[i] = "--config=" + file
		}
	}
	args = append(args, "--kubeconfig="+kubeconfig, "--webhook-bind-address="+ports[0], "--health-bind-address="+ports[1], "--metrics-bind-address="+ports[2])
	c.mu.Lock()
	c.runs++
	name := fmt.Sprintf("quorate-%d", c.runs)
	c.mu.Unlock()
	process, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: name, Path: c.binary, Args: args, LogDir: c.Logs(),
		Env: []string{"POD_NAME=" + pod.Name, "POD_NAMESPACE=" + pod.Namespace},
	})
	if err != nil {
		return nil, "", err
	}
	c.service.add(pod.Name, &replica{address: ports[0], health: "http://" + ports[1] + "/readyz"})
	return &program{process: process, health: "http://" + ports[1] + "/readyz", gone: func() { c.service.remove(pod.Name) }}, "192.0.2.2", nil
}

// program is a replica's process.
type program struct {
	process *lab.Process
	health  string
	gone    func()
}

func (p *program) Ready(ctx context.Context) error { return isReady(ctx, p.health) }
func (p *program) Done() <-chan struct{}           { return p.process.Done() }

func (p *program) Stop(ctx context.Context) error {
	defer p.gone()
	_ = p.process.Signal(syscall.SIGTERM)
	if err := p.process.Wait(ctx); ctx.Err() != nil {
		return err
	}
	return p.process.Close()
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

// run runs a page's command as it stands, with our overlay for the base.
func (c *cluster) run(t *testing.T, command string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", strings.ReplaceAll(command, "deploy/base", c.overlay))
	cmd.Dir = c.repo
	cmd.Env = append(os.Environ(), "PATH="+c.Binaries+":"+os.Getenv("PATH"), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("$ %s (%v)\n%s", command, time.Since(began).Round(10*time.Millisecond), out)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// writeOverlay makes a folder that is deploy/base but for the address of the webhooks:
// there is no network of Services here. Nothing else of the configurations differs.
func (c *cluster) writeOverlay(t *testing.T) {
	t.Helper()
	c.overlay = t.TempDir()
	base, err := filepath.Rel(c.overlay, filepath.Join(c.repo, "deploy", "base"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Render(filepath.Join(c.repo, "deploy"), "base")
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + base + "]\npatches:\n"
	for _, o := range objects {
		hooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		if len(hooks) == 0 {
			continue
		}
		text += "- target: {kind: " + o.GetKind() + "}\n  patch: |-\n"
		for i, h := range hooks {
			path, _, _ := unstructured.NestedString(h.(map[string]any), "clientConfig", "service", "path")
			text += fmt.Sprintf("    - {op: replace, path: /webhooks/%d/clientConfig, value: {url: 'https://localhost:%d%s'}}\n", i, c.service.port(), path)
		}
	}
	if err := os.WriteFile(filepath.Join(c.overlay, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// requests that quorate's service account made, by the audit log.
func (c *cluster) requests(t *testing.T) []auditv1.Event {
	t.Helper()
	file, err := os.Open(c.audit)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var events []auditv1.Event
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.User.Username == serviceAccount || e.ImpersonatedUser != nil && e.ImpersonatedUser.Username == serviceAccount {
			events = append(events, e)
		}
	}
	return events
}

// everything is the names of all objects of the cluster but those that come and go by
// themselves.
func (c *cluster) everything(t *testing.T) map[string]bool {
	t.Helper()
	_, lists, err := c.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, list := range lists {
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "events" || r.Name == "leases" || r.Name == "apiservices" {
				continue
			}
			items, err := c.dynamic.Resource(gvr(list.GroupVersion, r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				continue
			}
			for i := range items.Items {
				o := &items.Items[i]
				all[strings.Join([]string{list.GroupVersion, r.Name, o.GetNamespace(), o.GetName()}, " ")] = true
			}
		}
	}
	return all
}

func ensemble(t *testing.T, c *cluster) *unstructured.Unstructured {
	t.Helper()
	e, err := c.dynamic.Resource(gvr("quorate.io/v1alpha1", "ensembles")).Namespace("data").Get(t.Context(), "zk", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}
