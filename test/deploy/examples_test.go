package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	componentconfig "k8s.io/component-base/config"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/test/lab"
)

// read the one object of that kind and name, as the example's folder renders it.
func read(t *testing.T, folder, kind, name string, into any) {
	t.Helper()
	objects, err := Render(root, folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(t, objects, kind, name).Object, into); err != nil {
		t.Fatal(err)
	}
}

// A controller manager that is built with our options, and has the defaults that all
// have, takes the flags of the example.
func TestSwappedFlagsAreTaken(t *testing.T) {
	var d appsv1.Deployment
	read(t, "examples/flag-swap", "Deployment", "sample-controller-manager", &d)
	second := metav1.Duration{Duration: time.Second}
	lock := &componentconfig.LeaderElectionConfiguration{
		LeaseDuration: second, RenewDeadline: second, RetryPeriod: second, // the example says them all
		ResourceLock: resourcelock.LeasesResourceLock, ResourceName: d.Name, ResourceNamespace: d.Namespace,
	}
	options, flags := leaderelection.NewOptions(), pflag.NewFlagSet("controller-manager", pflag.ContinueOnError)
	options.AddFlags(flags, lock)
	if err := flags.Parse(d.Spec.Template.Spec.Containers[0].Args); err != nil {
		t.Fatal(err)
	}
	if err := options.Validate(lock); err != nil {
		t.Error(err)
	}
	if !lock.LeaderElect || lock.ResourceLock != leaderelection.ZooKeeper {
		t.Errorf("election: got %+v, want one by ZooKeeper", lock)
	}
}

// wrapped is a static pod, which nobody must apply: no kustomization has it.
func wrapped(t *testing.T) []byte {
	t.Helper()
	folder := filepath.Join(root, "examples", "elect")
	if _, err := os.Stat(filepath.Join(folder, "kustomization.yaml")); err == nil {
		t.Errorf("%s can be applied, and would run beside the static pod", folder)
	}
	text, err := os.ReadFile(filepath.Join(folder, "kube-controller-manager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What quorate elect runs in the example is taken by the real program, which elects
// nobody itself. The flags before it are tried in cmd/quorate.
func TestWrappedFlagsAreTaken(t *testing.T) {
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(wrapped(t), &pod); err != nil {
		t.Fatal(err)
	}
	command := pod.Spec.Containers[0].Command
	command = command[slices.Index(command, "--")+1:]
	if !slices.Contains(command, "--leader-elect=false") {
		t.Errorf("command: got %v, want --leader-elect=false", command)
	}
	binaries, err := lab.Build(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	// Flags are read in their order, and --help is the last.
	args := append(slices.Clone(command[1:]), "--help")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(binaries, command[0]), args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", command, err, out[max(0, len(out)-500):])
	}
}

// A probe over TLS says which name the certificates bear: hardly any bears a pod's IP,
// and members that can't be asked are let go by nobody.
func TestProbesOverTLSNameTheServer(t *testing.T) {
	var e v1alpha1.Ensemble
	read(t, "examples/stackable", "Ensemble", "simple-zk", &e)
	tls := e.Spec.Probe.ZooKeeper.TLS
	if want := "." + e.Namespace + ".svc.cluster.local"; tls == nil || !strings.HasSuffix(tls.ServerName, want) {
		t.Errorf("examples/stackable: TLS is %+v, want the serverName of a Service in %s", tls, e.Namespace)
	}
}
