package membership

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// TopologyManager is the field manager of status.topology, which whoever sees the
// Ensemble first writes.
const TopologyManager = "quorate-topology"

// WriteTopology writes status.topology of the object that the snapshot showed, by
// compare-and-swap: a conflict means that somebody was faster, and that the next
// snapshot tells. Nothing else of the status is touched.
func WriteTopology(ctx context.Context, ensembles rest.Interface, o *v1alpha1.Ensemble, topology []v1alpha1.TopologyLevel) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "Ensemble",
		"metadata": map[string]any{
			// The version tells an object made anew, too; the API server does not look at
			// a uid here (tried).
			"name": o.Name, "namespace": o.Namespace, "resourceVersion": o.ResourceVersion,
		},
		"status": map[string]any{"topology": topology},
	})
	if err != nil {
		return fmt.Errorf("encode topology of %s/%s: %w", o.Namespace, o.Name, err)
	}
	err = ensembles.Patch(types.ApplyPatchType).
		Namespace(o.Namespace).Resource("ensembles").Name(o.Name).SubResource("status").
		Param("fieldManager", TopologyManager).Param("force", "true").
		Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("write topology of %s/%s: %w", o.Namespace, o.Name, err)
	}
	return nil
}
