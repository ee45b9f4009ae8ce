package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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
