// Package deploy tests the folder deploy/ as a cluster sees it: rendered by
// kustomize's own library, applied to a real API server, and run from.
package deploy

import (
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Render is what `kubectl apply -k` would apply of that folder, in its order.
func Render(root, folder string) ([]*unstructured.Unstructured, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // kubectl's
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(root, folder))
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", folder, err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		object := &unstructured.Unstructured{}
		text, err := r.MarshalJSON()
		if err == nil {
			err = object.UnmarshalJSON(text)
		}
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", folder, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
