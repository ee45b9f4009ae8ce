package deploy

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// blocks are the YAML blocks of a page that are of that kind.
func blocks(t *testing.T, page, kind string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range snippet.FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "kind: "+kind+"\n") {
			list = append(list, block[1])
		}
	}
	return list
}

// kustomized is what the n-th kustomization of docs/install.md makes, in a folder of
// somebody's own.
func kustomized(t *testing.T, n int) []*unstructured.Unstructured {
	t.Helper()
	all := blocks(t, "install.md", "Kustomization")
	if len(all) <= n {
		t.Fatalf("docs/install.md has %d kustomizations", len(all))
	}
	folder := t.TempDir()
	deploy, err := filepath.Abs(root)
	if err == nil {
		deploy, err = filepath.Rel(folder, deploy)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(strings.ReplaceAll(all[n], "deploy/", deploy+"/")), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Render(folder, ".")
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// Whoever does what the page says runs the image that it had them build.
func TestOwnImageIsRun(t *testing.T) {
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(t, kustomized(t, 0), "Deployment", "quorate").Object, &d); err != nil {
		t.Fatal(err)
	}
	others, err := Others(filepath.Join(root, "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	pushed := ""
	for _, command := range others {
		if image, ok := strings.CutPrefix(command, "docker push "); ok {
			pushed = image
		}
	}
	if got := d.Spec.Template.Spec.Containers[0].Image; got != pushed || pushed == "" {
		t.Errorf("image: got %s, want the one that was pushed, %q", got, pushed)
	}
}

// An extender beside a scheduler that has its own configuration sees that file.
func TestExtenderSeesASchedulersOwnFile(t *testing.T) {
	objects := kustomized(t, 1)
	var set appsv1.DaemonSet
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(t, objects, "DaemonSet", "quorate-extender").Object, &set); err != nil {
		t.Fatal(err)
	}
	file := audited(t, objects)
	pod := set.Spec.Template.Spec
	for _, m := range pod.Containers[0].VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.HostPath != nil && m.MountPath == path.Dir(file) {
				if got := path.Join(v.HostPath.Path, path.Base(file)); got != "/etc/kubernetes/mine/kube-scheduler.yaml" {
					t.Errorf("the extender looks at %s of its host, not the file that the page names", got)
				}
				return
			}
		}
	}
	t.Errorf("nothing of the host is mounted where the extender looks, at %s", file)
}

// audited is the file that the extender of a kustomization looks at. All else of its
// configuration is as the component has it.
func audited(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	decode := func(text []byte) (c map[string]any, file string) {
		if err := yaml.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		file, _, _ = unstructured.NestedString(c, "extender", "schedulerConfiguration")
		unstructured.RemoveNestedField(c, "extender", "schedulerConfiguration")
		return c, file
	}
	shipped, err := os.ReadFile(filepath.Join(root, "components/scheduler-control-plane/quorate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := decode(shipped)
	got, file := decode([]byte(field(t, find(t, objects, "ConfigMap", "quorate-extender"), "data", "quorate.yaml")))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the page's configuration of the extender (-component +page):\n%s", diff)
	}
	return file
}

// cluster-autoscaler takes one profile of a scheduler's configuration, and no extender:
// what it is to leave out of account, the profile's own plugin must say.
func TestAutoscalerLeavesTheRequestOutOfAccount(t *testing.T) {
	all := blocks(t, "autoscalers.md", "KubeSchedulerConfiguration")
	if len(all) != 1 {
		t.Fatalf("configurations: got %q, want one", all)
	}
	var config schedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict([]byte(all[0]), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Profiles) != 1 || len(config.Profiles[0].PluginConfig) != 1 || config.Profiles[0].PluginConfig[0].Name != "NodeResourcesFit" {
		t.Fatalf("profiles: got %+v, want one that configures NodeResourcesFit", config.Profiles)
	}
	var args schedulerv1.NodeResourcesFitArgs
	if err := yaml.UnmarshalStrict(config.Profiles[0].PluginConfig[0].Args.Raw, &args); err != nil {
		t.Fatal(err)
	}
	if len(args.IgnoredResourceGroups) != 1 || args.IgnoredResourceGroups[0] != "quorate.io" {
		t.Errorf("groups: got %v, want quorate.io", args.IgnoredResourceGroups)
	}
}
