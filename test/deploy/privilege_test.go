package deploy

import (
	"path/filepath"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// unused are verbs that this test has no occasion for, each with the reason.
var unused = map[string]string{
	"create poddisruptionbudgets": "the members never answer here: the status controller's own test has it",
	"update poddisruptionbudgets": "an Ensemble whose voters changed",
	"delete poddisruptionbudgets": "an Ensemble that no longer asks for one",
	"patch events":                "an Event that is seen again: by chance",
	"list nodes":                  "informers stream their lists by watch; for API servers that can't",
	"list persistentvolumeclaims": "the same",
	"list persistentvolumes":      "the same",
	"list statefulsets":           "the same",
}

// leastPrivilege compares what a user did with what it may: the audit log against the
// rules of those roles of a folder.
func (c *cluster) leastPrivilege(t *testing.T, user, folder string, unused map[string]string, roles ...string) {
	t.Helper()
	did := map[string]bool{}
	for _, e := range c.requests(t, user) {
		if e.ObjectRef == nil {
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		did[e.Verb+" "+resource] = true
		if e.ResponseStatus != nil && e.ResponseStatus.Code == 403 {
			t.Errorf("%s was refused: %s %s %s/%s: %s", user, e.Verb, resource, e.ObjectRef.Namespace, e.ObjectRef.Name, e.ResponseStatus.Message)
		}
	}
	objects, err := Render(filepath.Join(c.repo, "deploy"), folder)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range objects {
		if !slices.Contains(roles, o.GetKind()+"/"+o.GetName()) {
			continue
		}
		found++
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					use := verb + " " + resource
					if _, excused := unused[use]; !did[use] && !excused {
						t.Errorf("%s %s may %s, and never did", o.GetKind(), o.GetName(), use)
					}
				}
			}
		}
	}
	if found != len(roles) {
		t.Errorf("roles in %s: got %d, want %v", folder, found, roles)
	}
}
