package election

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/quorate/quorate/test/lab"
)

// stores are the flags of every place where an election can be held.
func stores(t *testing.T, plane *lab.ControlPlane) map[string][]string {
	return map[string][]string{
		"zookeeper": {
			"--leader-elect-resource-lock=zookeeper", "--leader-elect-zookeeper-servers=" + sharedEnsemble(t).Connect(),
			"--leader-elect-zookeeper-tick=" + tick.String(), "--leader-elect-zookeeper-session-timeout=5s", "--leader-elect-zookeeper-stop-time=1s",
		},
		"leases": {
			"--leader-elect-resource-lock=leases", "--kubeconfig=" + plane.Kubeconfig(),
			"--leader-elect-lease-duration=6s", "--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=1s", "--leader-elect-zookeeper-stop-time=1s",
		},
	}
}

// The real kube-controller-manager, which knows nothing of our lock, runs in one of
// three copies, and in another when the leading wrapper is killed. flock refuses to
// start a second while anything of the first lives.
func TestElectWrapsTheRealControllerManager(t *testing.T) {
	together(t)
	binaries := must(lab.Build(t.Context(), io.Discard))(t)
	plane := must(lab.StartControlPlane(t.Context(), lab.ControlPlaneConfig{Binaries: binaries}))(t)
	closeAfter(t, plane)
	client := must(kubernetes.NewForConfig(plane.RESTConfig()))(t)
	for name, store := range stores(t, plane) {
		t.Run(name, func(t *testing.T) {
			together(t)
			c := &managers{dir: t.TempDir(), client: client, store: store, command: []string{
				"flock", "-n", "-E", "99", filepath.Join(t.TempDir(), "lock"),
				filepath.Join(binaries, "kube-controller-manager"), "--kubeconfig=" + plane.Kubeconfig(),
				"--leader-elect=false", "--secure-port=0", "--controllers=namespace-controller",
			}}
			for _, copyName := range []string{"ann", "bob", "cyd"} {
				c.start(t, copyName)
			}
			first := c.leader(t, "")
			c.wantWorking(t, name+"-first")
			check(t, c.copies[first].Signal(syscall.SIGKILL))
			if second := c.leader(t, first); second == first {
				t.Errorf("leader after %s was killed: got the same", first)
			}
			c.wantWorking(t, name+"-second")
			for copyName, p := range c.copies {
				if p.ExitCode() == 99 {
					t.Errorf("the controller manager of %s met another that ran", copyName)
				}
			}
		})
	}
}

// managers are wrapped controller managers.
type managers struct {
	dir            string
	client         *kubernetes.Clientset
	store, command []string
	copies         map[string]*lab.Process
}

func (c *managers) start(t *testing.T, name string) {
	t.Helper()
	args := append([]string{"elect", "--identity=" + name, "--leader-elect-resource-name=manager"}, c.store...)
	p := must(lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: name, Path: quorate, Args: append(append(args, "--"), c.command...), LogDir: c.dir,
	}))(t)
	closeAfter(t, p)
	if c.copies == nil {
		c.copies = map[string]*lab.Process{}
	}
	c.copies[name] = p
}

// leader that quorate leaders names, other than one.
func (c *managers) leader(t *testing.T, than string) string {
	t.Helper()
	leader := ""
	await(t, "a leader", func() bool {
		table := leaders(t, append([]string{"manager", "-n", "default"}, c.store...)...)
		for name := range c.copies {
			if name != than && holds(table, name) {
				leader = name
				return true
			}
		}
		return false
	})
	return leader
}

// holds says whether a copy is in the column of leaders.
func holds(table, name string) bool {
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], name+"_") {
			return true
		}
	}
	return false
}

// wantWorking waits until a namespace that is deleted is gone, which is the
// controller manager's work.
func (c *managers) wantWorking(t *testing.T, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	namespaces := c.client.CoreV1().Namespaces()
	must(namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}))(t)
	check(t, namespaces.Delete(ctx, namespace, metav1.DeleteOptions{}))
	await(t, "the work of the controller manager", func() bool {
		_, err := namespaces.Get(ctx, namespace, metav1.GetOptions{})
		return err != nil && ctx.Err() == nil
	})
}
