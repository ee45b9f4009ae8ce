package deploy

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/deploy"
)

const root = "../../deploy"

// folders are all that can be applied by themselves.
func folders(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if !isComponent(text) {
			list = append(list, folder)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEverythingRenders(t *testing.T) {
	list := folders(t)
	for _, want := range []string{"base", "examples/install", "examples/zookeeper"} {
		if !slices.Contains(list, want) {
			t.Errorf("folders: got %v, want %s among them", list, want)
		}
	}
	for _, folder := range list {
		t.Run(folder, func(t *testing.T) {
			objects, err := Render(root, folder)
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) == 0 {
				t.Error("rendered nothing")
			}
			for _, o := range objects {
				if o.GetName() == "" || o.GetAPIVersion() == "" {
					t.Errorf("object without name or version: %v", o.Object)
				}
				versioned(t, o)
				budgeted(t, o, objects)
			}
		})
	}
}

// The voter policy looks where the guard does and nowhere else: one label says both,
// and a policy that can't be carried out blocks nobody besides.
func TestPolicyLooksWhereTheGuardDoes(t *testing.T) {
	decode := func(file string, into any) {
		t.Helper()
		text, err := deploy.Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := bytes.Cut(text, []byte("\n---\n"))
		if err := yaml.UnmarshalStrict(first, into); err != nil {
			t.Fatal(err)
		}
	}
	var hooks admissionv1.ValidatingWebhookConfiguration
	var policy admissionv1.MutatingAdmissionPolicy
	decode(deploy.ValidatingWebhooks, &hooks)
	decode(deploy.VoterPolicy, &policy)
	got := policy.Spec.MatchConstraints.NamespaceSelector
	if got.MatchLabels[deploy.GuardLabel] != "enabled" {
		t.Errorf("the policy looks at namespaces that are not labelled: %v", got)
	}
	for _, hook := range hooks.Webhooks {
		if diff := cmp.Diff(hook.NamespaceSelector, got); diff != "" {
			t.Errorf("namespaces of %s and of the policy (-guard +policy):\n%s", hook.Name, diff)
		}
	}
}

// versioned: an image is the same one tomorrow.
func versioned(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		image, _, _ := unstructured.NestedString(c.(map[string]any), "image")
		if _, tag, _ := strings.Cut(path.Base(image), ":"); tag == "" || tag == "latest" {
			t.Errorf("%s %s runs %s, want a version", o.GetKind(), o.GetName(), image)
		}
	}
}

// budgeted: one drain takes one replica of ours at most.
func budgeted(t *testing.T, o *unstructured.Unstructured, objects []*unstructured.Unstructured) {
	t.Helper()
	if o.GetKind() != "Deployment" || o.GetNamespace() != "quorate-system" {
		return
	}
	selector, _, _ := unstructured.NestedMap(o.Object, "spec", "selector")
	if !slices.ContainsFunc(objects, func(b *unstructured.Unstructured) bool {
		selects, _, _ := unstructured.NestedMap(b.Object, "spec", "selector")
		most, _, _ := unstructured.NestedInt64(b.Object, "spec", "maxUnavailable")
		return b.GetKind() == "PodDisruptionBudget" && b.GetNamespace() == o.GetNamespace() && most == 1 && reflect.DeepEqual(selects, selector)
	}) {
		t.Errorf("Deployment %s: no PodDisruptionBudget lets one of %v go", o.GetName(), selector)
	}
}

// isComponent reports whether the kustomization can be applied only with another one.
func isComponent(kustomization []byte) bool {
	return bytes.Contains(kustomization, []byte("\nkind: Component\n"))
}
