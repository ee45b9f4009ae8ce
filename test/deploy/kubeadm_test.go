package deploy

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// kubeadm is what our page sets of kubeadm's ClusterConfiguration, v1beta4.
type kubeadm struct {
	metav1.TypeMeta `json:",inline"`

	Scheduler struct {
		ExtraArgs []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"extraArgs"`
		ExtraVolumes []struct {
			Name      string              `json:"name"`
			HostPath  string              `json:"hostPath"`
			MountPath string              `json:"mountPath"`
			ReadOnly  bool                `json:"readOnly"`
			PathType  corev1.HostPathType `json:"pathType"`
		} `json:"extraVolumes"`
	} `json:"scheduler"`
}

// A scheduler in a static pod finds its configuration, and by that the API server: it
// ignores --kubeconfig once it has --config, and no service account is mounted there.
func TestKubeadmsSchedulerFindsWhatItNeeds(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	var k kubeadm
	for _, block := range snippet.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], "kubeadm.k8s.io") {
			if err := yaml.UnmarshalStrict([]byte(block[1]), &k); err != nil {
				t.Fatal(err)
			}
		}
	}
	if k.APIVersion != "kubeadm.k8s.io/v1beta4" || k.Kind != "ClusterConfiguration" || len(k.Scheduler.ExtraArgs) != 1 || len(k.Scheduler.ExtraVolumes) != 1 {
		t.Fatalf("docs/install.md: got %+v, want a ClusterConfiguration with one argument and one volume of the scheduler", k)
	}
	arg, volume := k.Scheduler.ExtraArgs[0], k.Scheduler.ExtraVolumes[0]
	if arg.Name != "config" || path.Dir(arg.Value) != volume.MountPath || volume.HostPath != volume.MountPath || volume.PathType != corev1.HostPathDirectory {
		t.Errorf("the scheduler reads %s=%s, and is given %+v", arg.Name, arg.Value, volume)
	}
	if !strings.Contains(string(page), "deploy/components/scheduler-control-plane/scheduler.yaml "+arg.Value) {
		t.Errorf("docs/install.md does not say what is copied to %s", arg.Value)
	}
	looksAt(t, arg.Value, volume.HostPath)
	text, err := os.ReadFile(filepath.Join(root, "components", "scheduler-control-plane", "scheduler.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config schedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	// What kubeadm mounts into the static pod.
	if got, want := config.ClientConnection.Kubeconfig, "/etc/kubernetes/scheduler.conf"; got != want {
		t.Errorf("the scheduler's kubeconfig: got %q, want %s", got, want)
	}
}

// looksAt: the extender beside it audits that file of the host, not a copy.
func looksAt(t *testing.T, file, folder string) {
	t.Helper()
	objects, err := Render(root, "examples/scheduler-control-plane")
	if err != nil {
		t.Fatal(err)
	}
	if got := audited(t, objects); got != file {
		t.Errorf("the extender audits %q, want %s", got, file)
	}
	var set appsv1.DaemonSet
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(t, objects, "DaemonSet", "quorate-extender").Object, &set); err != nil {
		t.Fatal(err)
	}
	pod := set.Spec.Template.Spec
	// The label's value is empty with kubeadm, and "true" with k3s.
	if a := pod.Affinity; len(pod.NodeSelector) > 0 || a == nil || a.NodeAffinity == nil || !controlPlane(a.NodeAffinity) {
		t.Errorf("the extender goes to %v and %v, want the nodes that bear the label", pod.NodeSelector, a)
	}
	if !slices.ContainsFunc(pod.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == folder && m.ReadOnly && slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
			return v.Name == m.Name && v.HostPath != nil && v.HostPath.Path == folder
		})
	}) {
		t.Errorf("the extender does not see %s of its host: %v", folder, pod.Containers[0].VolumeMounts)
	}
}

func controlPlane(a *corev1.NodeAffinity) bool {
	return slices.ContainsFunc(a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(term corev1.NodeSelectorTerm) bool {
		return len(term.MatchExpressions) == 1 &&
			term.MatchExpressions[0].Key == "node-role.kubernetes.io/control-plane" && term.MatchExpressions[0].Operator == corev1.NodeSelectorOpExists
	})
}
