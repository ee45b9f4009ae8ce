package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/quorate/quorate/deploy"
)

// The process gets all rights that the files bind it to: no role of ours is left out.
func TestInstalledRolesAreComplete(t *testing.T) {
	bound, made := map[string]bool{}, map[string]bool{}
	for _, file := range installed {
		text, err := deploy.Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			var o rbacv1.ClusterRoleBinding
			if err := objects.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			switch o.Kind {
			case "ClusterRole":
				made[o.Name] = true
			case "ClusterRoleBinding":
				bound[o.RoleRef.Name] = true
			}
		}
	}
	if len(bound) == 0 {
		t.Error("nothing is bound")
	}
	for name := range bound {
		if !made[name] && !strings.HasPrefix(name, "system:") {
			t.Errorf("ClusterRole %s is bound and not made", name)
		}
	}
}
