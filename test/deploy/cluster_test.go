package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	// held are pods whose kubelet does not hear of changed ConfigMaps.
	held map[string]bool
	// ports are where pods listen that would share an address on their node.
	ports map[string]string
}

// admissionConfig lets pods of that priority into namespaces alone that have a quota
// for them, as GKE does.
const admissionConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchScopes:
      - {scopeName: PriorityClass, operator: In, values: [system-cluster-critical]}
`

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
	c := &cluster{
		repo: repo, audit: filepath.Join(dir, "audit.log"), binary: filepath.Join(dir, "quorate"),
		held: map[string]bool{}, ports: map[string]string{},
	}
	built := make(chan error, 1) // while the control plane starts
	go func() { built <- lab.BuildProgram(ctx, t.Output(), c.binary, "./cmd/quorate") }()
	policy, admission := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "admission.yaml")
	for file, text := range map[string]string{policy: auditPolicy, admission: admissionConfig} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.ControlPlane, err = lab.StartControlPlane(ctx, lab.ControlPlaneConfig{
		Controllers: true, Scheduler: true, Progress: t.Output(),
		APIServerArgs: []string{
			"--audit-policy-file=" + policy, "--audit-log-path=" + c.audit, "--audit-log-mode=blocking",
			"--admission-control-config-file=" + admission,
		},
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
	if err := <-built; err != nil {
		t.Fatal(err)
	}
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
	c.operators(t)
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

// operators of others are not here, but what they define is.
func (c *cluster) operators(t *testing.T) {
	t.Helper()
	files, err := lab.Definitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	given := " -f " + strings.Join(files, " -f ")
	c.run(t, "kubectl create"+given)
	c.run(t, "kubectl wait --for=condition=Established --timeout=60s"+given)
}

func (c *cluster) showLogs(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join(c.Logs(), "quorate*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		t.Logf("%s ends:\n%s", filepath.Base(log), text[max(0, len(text)-6000):])
	}
}

// run runs a page's command as it stands, with our overlay for the base, and a folder of
// the lab for one of the host.
func (c *cluster) run(t *testing.T, command string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", strings.NewReplacer("deploy/base", c.overlay, "/etc/kubernetes", c.host()).Replace(command))
	cmd.Dir = c.repo
	cmd.Env = append(os.Environ(), "PATH="+c.Binaries+":"+filepath.Dir(c.binary)+":"+os.Getenv("PATH"), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("$ %s (%v)\n%s", command, time.Since(began).Round(10*time.Millisecond), out)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// host is what a control-plane node has in /etc/kubernetes.
func (c *cluster) host() string { return filepath.Join(c.Dir, "kubernetes") }

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

// requests that the user made, by the audit log.
func (c *cluster) requests(t *testing.T, user string) []auditv1.Event {
	t.Helper()
	text, err := os.ReadFile(c.audit)
	if err != nil {
		t.Fatal(err)
	}
	var events []auditv1.Event
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.User.Username == user || e.ImpersonatedUser != nil && e.ImpersonatedUser.Username == user {
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
