package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/test/lab"
)

// streamed are verbs of the extender and its scheduler that are not seen, each with
// the reason.
var streamed = map[string]string{
	"list pods":                         "informers stream their lists by watch; for API servers that can't",
	"list nodes":                        "the same",
	"list persistentvolumeclaims":       "the same",
	"list persistentvolumes":            "the same",
	"list apps/statefulsets":            "the same",
	"list quorate.io/ensembles":         "the same",
	"list coordination.k8s.io/leases":   "the same",
	"patch quorate.io/ensembles/status": "whoever sees an Ensemble first writes its topology: by chance",
}

// places runs the scheduler's side by its manifests and its own service accounts: as a
// second scheduler first, then beside one of the control plane.
func (c *cluster) places(t *testing.T) {
	c.run(t, "kubectl create namespace placed")
	c.run(t, "kubectl label namespace placed quorate.io/guard=enabled")
	second := c.component(t, "scheduler")
	c.run(t, "kubectl apply -k "+second)
	c.run(t, "kubectl -n quorate-system rollout status deployment/quorate-scheduler --timeout=120s")
	// All are described at once: a status is written every ten seconds at most.
	c.apply(t, ensembleOf, "spread", corev1.LabelTopologyZone)
	c.apply(t, ensembleOf, "racks", "example.com/rack")
	c.apply(t, ensembleOf, "hand", corev1.LabelTopologyZone)
	c.byHand(t)
	c.safeAndFeasible(t)
	c.neverBlocked(t, "default", "while the voter policy is in force")
	c.infeasibleUntilChanged(t)
	c.auditsScheduler(t)
	// Nobody judges what is bound by hand, and everybody is told.
	c.condition(t, "hand", "PlacementSafe", "False", "zone a holds 2 of 3 voters")
	c.leastPrivilege(t, "system:serviceaccount:quorate-system:quorate-scheduler", "examples/scheduler", streamed, "ClusterRole/quorate-extender", "Role/quorate-scheduler")
	c.run(t, "kubectl delete -k "+second)
	c.neverBlocked(t, "default", "once the scheduler's side is deleted")
	c.besideControlPlane(t)
	c.condition(t, "racks", "PlacementFeasible", "True", "")
	c.run(t, "kubectl -n placed delete ensemble --all") // of whom the rest are members, which are guarded
	c.run(t, "kubectl -n placed delete statefulset,pod --all")
	c.run(t, "kubectl delete namespace placed")
}

// component makes a folder that has the component, and the resources of other folders.
func (c *cluster) component(t *testing.T, name string, resources ...string) string {
	t.Helper()
	folder := t.TempDir()
	relative := func(path string) string {
		path, err := filepath.Rel(folder, path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [" + relative(filepath.Join(c.repo, "deploy", "components", name)) + "]\n"
	for i := range resources {
		resources[i] = relative(resources[i])
	}
	text += "resources: [" + strings.Join(resources, ", ") + "]\n"
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

const ensembleOf = `apiVersion: quorate.io/v1alpha1
kind: Ensemble
metadata: {name: NAME, namespace: placed}
spec:
  selector: {matchLabels: {app: NAME}}
  voters: 3
  topology: [{topologyKey: KEY}]
`

const setOf = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME, namespace: placed}
spec:
  replicas: 3
  serviceName: NAME
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers: [{name: main, image: none}]
`

func (c *cluster) apply(t *testing.T, text, name, key string) {
	t.Helper()
	c.run(t, "kubectl apply -f - <<'EOF'\n"+strings.NewReplacer("NAME", name, "KEY", key).Replace(text)+"EOF")
}

// condition awaits a condition of an Ensemble of the namespace placed.
func (c *cluster) condition(t *testing.T, name, kind, status, says string) {
	t.Helper()
	await(t, fmt.Sprintf("%s=%s of %s", kind, status, name), func(ctx context.Context) error {
		e, err := c.dynamic.Resource(gvr("quorate.io/v1alpha1", "ensembles")).Namespace("placed").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(e.Object, "status", "conditions")
		for _, o := range conditions {
			m := o.(map[string]any)
			if m["type"] == kind && m["status"] == status && strings.Contains(fmt.Sprint(m["message"]), says) {
				return nil
			}
		}
		return fmt.Errorf("conditions are %v", conditions)
	})
}

func (c *cluster) members(ctx context.Context, name string) ([]corev1.Pod, error) {
	pods, err := c.Client.CoreV1().Pods("placed").List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return nil, err
	}
	return pods.Items, nil
}

// bound awaits that all three members are, and returns how many are in each zone.
func (c *cluster) bound(t *testing.T, name string) map[string]int {
	t.Helper()
	var zones map[string]int
	await(t, "the members of "+name+" to be bound", func(ctx context.Context) error {
		pods, err := c.members(ctx, name)
		zones = map[string]int{}
		for i := range pods {
			if zone, _, ok := strings.Cut(pods[i].Spec.NodeName, "-"); ok {
				zones[zone]++
			}
		}
		if total := len(zones); err == nil && (len(pods) != 3 || total == 0) {
			err = fmt.Errorf("%d pods in %v", len(pods), zones)
		}
		for i := range pods {
			if pods[i].Spec.NodeName == "" {
				return errors.Join(err, fmt.Errorf("%s is not: %v", pods[i].Name, pods[i].Status.Conditions))
			}
		}
		return err
	})
	return zones
}

// safeAndFeasible: whoever describes an ensemble has its members placed by the second
// scheduler, though they ask for none, and reads that they are safe.
func (c *cluster) safeAndFeasible(t *testing.T) {
	t.Helper()
	probe := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{"app": "spread"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	await(t, "the policy to be in force", func(ctx context.Context) error {
		pod, err := c.Client.CoreV1().Pods("placed").Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && pod.Spec.SchedulerName != "quorate-scheduler" {
			err = errors.New("the pod goes to " + pod.Spec.SchedulerName)
		}
		return err
	})
	c.apply(t, setOf, "spread", "")
	c.apply(t, setOf, "racks", "")
	if zones := c.bound(t, "spread"); len(zones) != 3 {
		t.Errorf("members by zone: got %v, want one in each", zones)
	}
	c.condition(t, "spread", "PlacementSafe", "True", "")
	c.condition(t, "spread", "PlacementFeasible", "True", "")
}

// infeasibleUntilChanged: members wait where no place is safe, and no longer once the
// Ensemble asks for what there is.
func (c *cluster) infeasibleUntilChanged(t *testing.T) {
	t.Helper()
	c.condition(t, "racks", "PlacementFeasible", "False", "example.com/rack")
	await(t, "a member to be told why it waits", func(ctx context.Context) error {
		pods, err := c.members(ctx, "racks")
		for i := range pods {
			if pods[i].Spec.NodeName != "" {
				return lab.Stop(fmt.Errorf("%s was bound to %s, which is in no rack", pods[i].Name, pods[i].Spec.NodeName))
			}
			for _, k := range pods[i].Status.Conditions {
				if k.Type == corev1.PodScheduled && k.Status == corev1.ConditionFalse {
					return nil
				}
			}
		}
		return errors.Join(err, errors.New("nobody was yet"))
	})
	c.apply(t, ensembleOf, "racks", corev1.LabelHostname)
	c.bound(t, "racks")
}

// byHand binds members where their ensemble does not survive.
func (c *cluster) byHand(t *testing.T) {
	t.Helper()
	for i, node := range []string{"a-1", "a-2", "b-1"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("hand-%d", i), Labels: map[string]string{"app": "hand"}},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "none"}}},
		}
		if _, err := c.Client.CoreV1().Pods("placed").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// besideControlPlane runs the DaemonSet's extender, and a scheduler that is configured
// by its ConfigMap, as the control plane's own would be.
func (c *cluster) besideControlPlane(t *testing.T) {
	t.Helper()
	folder := c.component(t, "scheduler-control-plane")
	c.run(t, "kubectl label node a-1 node-role.kubernetes.io/control-plane=true")
	c.run(t, "kubectl apply -k "+folder)
	c.run(t, "kubectl -n kube-system rollout status daemonset/quorate-extender --timeout=120s")
	pods, err := c.Client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=quorate-extender"})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Spec.NodeName != "a-1" {
		t.Fatalf("extenders: got %v (%v), want one on a-1", pods, err)
	}
	c.wired(t, pods.Items[0].Name, 0)
	file, err := os.ReadFile(c.schedulerFile())
	if err != nil {
		t.Fatal(err)
	}
	var scheduler schedulerv1.KubeSchedulerConfiguration
	text := strings.ReplaceAll(string(file), "127.0.0.1:10270", c.at(pods.Items[0].Name))
	if err := yaml.UnmarshalStrict([]byte(text), &scheduler); err != nil {
		t.Fatal(err)
	}
	// As its own file is on a control-plane node: see TestKubeadmsSchedulerFindsWhatItNeeds.
	if scheduler.ClientConnection.Kubeconfig, err = c.KubeconfigAs("system:kube-scheduler"); err != nil {
		t.Fatal(err)
	}
	scheduler.Profiles = []schedulerv1.KubeSchedulerProfile{{SchedulerName: new("beside")}} // one has the default's name already
	s, err := c.StartScheduler(t.Context(), lab.SchedulerConfig{Name: "beside", Configuration: &scheduler})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c.apply(t, ensembleOf, "beside", corev1.LabelTopologyZone)
	voter := corev1.ResourceList{"quorate.io/voter": resource.MustParse("1")}
	for i := range 3 {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("beside-%d", i), Labels: map[string]string{"app": "beside"}},
			Spec: corev1.PodSpec{SchedulerName: "beside", Containers: []corev1.Container{{
				Name: "main", Image: "none", Resources: corev1.ResourceRequirements{Requests: voter, Limits: voter},
			}}},
		}
		if _, err := c.Client.CoreV1().Pods("placed").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if zones := c.bound(t, "beside"); len(zones) != 3 {
		t.Errorf("members by zone: got %v, want one in each", zones)
	}
	streamed := withReason(streamed, "patch pods", "nobody waits here; the role is that of the second scheduler's extender")
	c.leastPrivilege(t, "system:serviceaccount:kube-system:quorate-extender", "examples/scheduler-control-plane", streamed, "ClusterRole/quorate-extender", "Role/quorate-extender")
	c.run(t, "kubectl delete -k "+folder)
	c.run(t, "kubectl label node a-1 node-role.kubernetes.io/control-plane-")
}

func withReason(of map[string]string, verb, reason string) map[string]string {
	more := map[string]string{verb: reason}
	maps.Copy(more, of)
	return more
}
