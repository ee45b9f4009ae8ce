package deploy

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
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
			}
		})
	}
}

// isComponent reports whether the kustomization can be applied only with another one.
func isComponent(kustomization []byte) bool {
	return bytes.Contains(kustomization, []byte("\nkind: Component\n"))
}
