package lab_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/test/lab"
)

// What our programs and the control plane are both made of is compiled once: nearly all
// of client-go, so minutes of the first demo. One module that they need in two versions
// is enough to compile what depends on it twice.
func TestControlPlaneSharesWhatIsCompiled(t *testing.T) {
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	ours := modules(t, root, "./test/demo", "./test/setup", "./cmd/quorate")
	theirs := modules(t, filepath.Join(root, "test", "controlplane"), ".")
	shared := 0
	for path, dir := range ours {
		switch other, ok := theirs[path]; {
		case !ok:
		case other != dir:
			t.Errorf("%s: %s here, %s in test/controlplane: raise the older one", path, filepath.Base(dir), filepath.Base(other))
		default:
			shared++
		}
	}
	if shared < 50 {
		t.Errorf("%d modules are shared, of %d and %d", shared, len(ours), len(theirs))
	}
}

// modules whose packages these packages are built from, and the folder of each.
func modules(t *testing.T, dir string, packages ...string) map[string]string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}"}, packages...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			found[path] = dir
		}
	}
	maps.DeleteFunc(found, func(path, _ string) bool { return strings.HasPrefix(path, "github.com/quorate/") })
	return found
}
