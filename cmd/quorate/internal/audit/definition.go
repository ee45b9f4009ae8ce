package audit

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Definition compares the CRD in the cluster with the one it should be. live is nil
// where there is none.
func Definition(live, want *apiextensionsv1.CustomResourceDefinition) []Problem {
	object := "CustomResourceDefinition/" + want.Name
	if live == nil {
		return []Problem{problem(Missing, object, "is not there: apply deploy/base")}
	}
	var problems []Problem
	if !established(live) {
		problems = append(problems, problem(Schema, object, "is not established: `kubectl describe crd %s` says why", want.Name))
	}
	for i := range want.Spec.Versions {
		w := &want.Spec.Versions[i]
		k := slices.IndexFunc(live.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == w.Name })
		switch {
		case k < 0 || !live.Spec.Versions[k].Served:
			problems = append(problems, problem(Schema, object, "version %s is not served: apply deploy/base", w.Name))
		case live.Spec.Versions[k].Subresources == nil || live.Spec.Versions[k].Subresources.Status == nil:
			problems = append(problems, problem(Schema, object, "has no status subresource, so that users may write grants: apply deploy/base"))
		case !equality.Semantic.DeepEqual(live.Spec.Versions[k].Schema, w.Schema):
			problems = append(problems, problem(Schema, object, "the schema of %s is not that of this version: apply the deploy/base that goes with this image", w.Name))
		}
	}
	return problems
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}
