package election

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
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
// three copies, and in another whatever happens to the first. flock refuses to start a
// second while anything of the first lives.
func TestElectWrapsTheRealControllerManager(t *testing.T) {
	together(t)
	binaries := must(lab.Build(t.Context(), io.Discard))(t)
	plane := must(lab.StartControlPlane(t.Context(), lab.ControlPlaneConfig{Binaries: binaries}))(t)
	closeAfter(t, plane)
	client := must(kubernetes.NewForConfig(plane.RESTConfig()))(t)
	for name, store := range stores(t, plane) {
		t.Run(name, func(t *testing.T) {
			together(t)
			c := &managers{dir: t.TempDir(), client: client, store: store, copies: map[string]*wrapped{}, command: []string{
				"flock", "-n", "-E", "99", filepath.Join(t.TempDir(), "lock"),
				filepath.Join(binaries, "kube-controller-manager"), "--kubeconfig=" + plane.Kubeconfig(),
				"--leader-elect=false", "--secure-port=0", "--controllers=namespace-controller",
			}}
			for _, copyName := range []string{"ann", "bob", "cyd"} {
				c.enter(t, copyName, name == "zookeeper")
			}
			c.leader(t, "")
			c.wantWorking(t, name+"-first")
			c.suffer(t, func(w *wrapped) { check(t, w.process.Signal(syscall.SIGKILL)) })
			if name == "zookeeper" {
				c.sufferMore(t)
			}
			c.wantWorking(t, name+"-last")
		})
	}
}

// sufferMore than the death of a wrapper.
func (c *managers) sufferMore(t *testing.T) {
	t.Helper()
	c.suffer(t, func(w *wrapped) { // the controller manager dies
		await(t, "the controller manager of "+w.name, func() bool { return controllerManager(w.process.Pid()) != 0 })
		check(t, syscall.Kill(controllerManager(w.process.Pid()), syscall.SIGKILL))
	})
	paused := c.suffer(t, func(w *wrapped) { check(t, w.process.Signal(syscall.SIGSTOP)) })
	check(t, paused.process.Signal(syscall.SIGCONT))
	cut := c.suffer(t, func(w *wrapped) { check(t, w.links.All((*lab.Link).Drop)) })
	check(t, cut.links.All((*lab.Link).Restore))
}

// suffer what is done to the leading copy, await another that leads, and start again
// what has ended.
func (c *managers) suffer(t *testing.T, hurt func(*wrapped)) *wrapped {
	t.Helper()
	first := c.leader(t, "")
	hurt(c.copies[first])
	c.leader(t, first)
	for name, w := range c.copies {
		select {
		case <-w.process.Done():
			if w.process.ExitCode() == 99 {
				t.Errorf("the controller manager of %s met another that ran", name)
			}
			c.start(t, w)
		default:
		}
	}
	return c.copies[first]
}

// controllerManager that descends from a process, by whatever thread; 0 if there is
// none.
func controllerManager(of int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of))
	for _, list := range lists {
		children, _ := os.ReadFile(list) // none where the process has ended
		for child := range strings.FieldsSeq(string(children)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				continue
			}
			if name, _ := os.ReadFile("/proc/" + child + "/comm"); strings.HasPrefix(string(name), "kube-controller") {
				return pid
			}
			if found := controllerManager(pid); found != 0 {
				return found
			}
		}
	}
	return 0
}

// managers are wrapped controller managers.
type managers struct {
	dir            string
	client         *kubernetes.Clientset
	store, command []string
	copies         map[string]*wrapped
}

// enter a copy, with links of its own to ZooKeeper if that is the store.
func (c *managers) enter(t *testing.T, name string, linked bool) {
	t.Helper()
	w := &wrapped{name: name}
	if linked {
		w.links = must(lab.LinkClient(t.Context(), sharedEnsemble(t)))(t)
		closeAfter(t, w.links)
	}
	c.copies[name] = w
	c.start(t, w)
}

func (c *managers) start(t *testing.T, w *wrapped) {
	t.Helper()
	args := append([]string{"elect", "--identity=" + w.name, "--leader-elect-resource-name=manager"}, c.store...)
	if w.links != nil {
		args = append(args, "--leader-elect-zookeeper-servers="+w.links.Connect())
	}
	w.process = must(lab.StartProcess(t.Context(), lab.ProcessConfig{
		Name: w.name, Path: quorate, Args: append(append(args, "--"), c.command...), LogDir: c.dir,
	}))(t)
	closeAfter(t, w.process)
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
