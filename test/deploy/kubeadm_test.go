package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if arg.Name != "config" || arg.Value != volume.MountPath || volume.PathType != corev1.HostPathFile || !volume.ReadOnly {
		t.Errorf("the scheduler reads %s=%s, and is given %+v", arg.Name, arg.Value, volume)
	}
	if !strings.Contains(string(page), "cp deploy/components/scheduler-control-plane/scheduler.yaml "+volume.HostPath) {
		t.Errorf("docs/install.md does not say what is copied to %s", volume.HostPath)
	}
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
	if slices.ContainsFunc(config.Extenders, func(e schedulerv1.Extender) bool { return len(e.ManagedResources) == 0 }) {
		t.Error("an extender is asked about every pod")
	}
}
