package deploy

import (
	"path/filepath"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// use is a verb on a resource of an API group, on one object of it where a rule names
// some.
type use struct{ verb, group, resource, name string }

// String is also how an excuse says it, which is for all names.
func (u use) String() string {
	s := u.verb + " " + u.resource
	if u.group != "" {
		s = u.verb + " " + u.group + "/" + u.resource
	}
	if u.name != "" {
		s += " " + u.name
	}
	return s
}

// unnamed is the same on any object.
func (u use) unnamed() use { return use{u.verb, u.group, u.resource, ""} }

// unused are uses that this test has no occasion for, each with the reason.
var unused = map[string]string{
	"patch events.k8s.io/events":  "an Event that is seen again: by chance",
	"list nodes":                  "informers stream their lists by watch; for API servers that can't",
	"list persistentvolumeclaims": "the same",
	"list persistentvolumes":      "the same",
}

// leastPrivilege compares what a user did with what it may: the audit log against the
// rules of those roles of a folder.
func (c *cluster) leastPrivilege(t *testing.T, user, folder string, unused map[string]string, roles ...string) {
	t.Helper()
	did := map[use]bool{}
	for _, e := range c.requests(t, user) {
		if e.ObjectRef == nil {
			continue
		}
		u := useOf(&e)
		did[u], did[u.unnamed()] = true, true
		if e.ResponseStatus != nil && e.ResponseStatus.Code == 403 {
			t.Errorf("%s was refused: %s in %s: %s", user, u, e.ObjectRef.Namespace, e.ResponseStatus.Message)
		}
	}
	granted := map[string]bool{}
	for _, role := range c.roles(t, folder, roles) {
		for _, u := range uses(role.Rules) {
			granted[u.unnamed().String()] = true
			if _, excused := unused[u.unnamed().String()]; !did[u] && !excused {
				t.Errorf("%s %s may %s, and never did", role.Kind, role.Name, u)
			}
		}
	}
	for excuse := range unused {
		if !granted[excuse] {
			t.Errorf("none of %v may %s: the excuse is stale", roles, excuse)
		}
	}
}

func useOf(e *auditv1.Event) use {
	u := use{e.Verb, e.ObjectRef.APIGroup, e.ObjectRef.Resource, e.ObjectRef.Name}
	if e.ObjectRef.Subresource != "" {
		u.resource += "/" + e.ObjectRef.Subresource
	}
	return u
}

// uses that the rules allow.
func uses(rules []rbacv1.PolicyRule) (all []use) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						all = append(all, use{verb, group, resource, name})
					}
				}
			}
		}
	}
	return all
}

// roles of a folder, each as KIND/NAME.
func (c *cluster) roles(t *testing.T, folder string, names []string) (all []rbacv1.ClusterRole) {
	t.Helper()
	objects, err := Render(filepath.Join(c.repo, "deploy"), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if !slices.Contains(names, o.GetKind()+"/"+o.GetName()) {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		all = append(all, role)
	}
	if len(all) != len(names) {
		t.Errorf("roles in %s: got %d, want %v", folder, len(all), names)
	}
	return all
}
