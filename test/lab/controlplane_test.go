package lab_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/lab"
)

func startPlane(t *testing.T, config lab.ControlPlaneConfig) *lab.ControlPlane {
	t.Helper()
	config.Progress = t.Output()
	plane, err := lab.StartControlPlane(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = fs.WalkDir(os.DirFS(plane.Logs()), ".", func(path string, _ fs.DirEntry, _ error) error {
				log, _ := os.ReadFile(plane.Logs() + "/" + path)
				t.Logf("%s ends:\n%s", path, log[max(0, len(log)-4000):])
				return nil
			})
		}
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
	})
	return plane
}

// work is a workload that is ready until it is stopped, and counts.
type work struct {
	once sync.Once
	done chan struct{}
}

func (w *work) Ready(context.Context) error { return nil }
func (w *work) Stop(context.Context) error  { w.once.Do(func() { close(w.done) }); return nil }
func (w *work) Done() <-chan struct{}       { return w.done }

// A StatefulSet's pods are scheduled, run, reported, moved off lost nodes with name
// and address, and stopped; and Close leaves nothing of it all.
func TestControlPlane(t *testing.T) {
	ctx := t.Context()
	plane := startPlane(t, lab.ControlPlaneConfig{Controllers: true, Scheduler: true})
	if err := plane.CreateNodes(ctx, lab.Hosts(2, "a", "b")...); err != nil {
		t.Fatal(err)
	}
	runner, err := plane.StartRunner(ctx, func(_ context.Context, pod *corev1.Pod) (lab.Workload, string, error) {
		return &work{done: make(chan struct{})}, "10.0.0." + pod.Name[len(pod.Name)-1:], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	if _, err := plane.Client.AppsV1().StatefulSets("default").Create(ctx, statefulSet("zk", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, plane, "zk", 3)
	first := runner.Workload("default", "zk-0")

	pod := getPod(t, plane, "zk-0")
	if pod.Status.PodIP != "10.0.0.0" {
		t.Errorf("got address %s, want that of its name", pod.Status.PodIP)
	}
	lost := pod.Spec.NodeName
	if err := plane.LoseNodes(ctx, lost); err != nil {
		t.Fatal(err)
	}
	runner.Lose(lost)
	<-first.Done()
	if err := plane.ForgetPods(ctx, lost); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, plane, "zk", 3)
	if moved := getPod(t, plane, "zk-0"); moved.Spec.NodeName == lost || moved.Status.PodIP != "10.0.0.0" {
		t.Errorf("got node %s and address %s, want another node and the same address", moved.Spec.NodeName, moved.Status.PodIP)
	}

	second := runner.Workload("default", "zk-0")
	out, err := plane.Kubectl(ctx, "delete", "statefulset", "zk", "--cascade=foreground", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "deleted") {
		t.Errorf("got %q of kubectl, want it to say deleted", out)
	}
	<-second.Done()

	closeLeavesNothing(t, plane, runner)
}

func closeLeavesNothing(t *testing.T, plane *lab.ControlPlane, runner *lab.Runner) {
	t.Helper()
	if err := runner.Close(); err != nil {
		t.Error(err)
	}
	host := plane.RESTConfig().Host
	if err := plane.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(plane.Dir); !os.IsNotExist(err) {
		t.Errorf("got %v of the folder, want it gone", err)
	}
	_, err := plane.Client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		t.Errorf("got %v of %s, want nobody there", err, host)
	}
	if left := processesIn(t, plane.Dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// processesIn are those whose command line names dir.
func processesIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil // no such place here
	}
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(line), dir) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// Closing in the middle of the start, as an interrupt does, leaves nothing either.
func TestControlPlaneStartInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	binaries, err := lab.Build(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		_ = lab.Await(t.Context(), time.Minute, "a first log", func(context.Context) error {
			logs, _ := fs.Glob(os.DirFS(os.TempDir()), "quorate-lab-*/logs/kube-apiserver.log")
			if len(logs) == 0 {
				return fmt.Errorf("none yet")
			}
			return nil
		})
	}()
	if plane, err := lab.StartControlPlane(ctx, lab.ControlPlaneConfig{Binaries: binaries}); err == nil {
		_ = plane.Close()
		t.Fatal("got a control plane, want the error of the interrupt")
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("got %v left, want nothing", left)
	}
	if left := processesIn(t, os.TempDir()); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// A scheduler that was killed is replaced by another of its name.
func TestSchedulerRestarts(t *testing.T) {
	ctx := t.Context()
	plane := startPlane(t, lab.ControlPlaneConfig{})
	if err := plane.CreateNodes(ctx, lab.Hosts(1, "a")...); err != nil {
		t.Fatal(err)
	}
	runner, err := plane.StartRunner(ctx, lab.LooksAlive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	for _, name := range []string{"first", "second"} {
		scheduler, err := plane.StartScheduler(ctx, lab.SchedulerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podSpec()}
		if _, err := plane.Client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		await(t, "pod to run", func(context.Context) error {
			if phase := getPod(t, plane, name).Status.Phase; phase != corev1.PodRunning {
				return fmt.Errorf("it is %s", phase)
			}
			return nil
		})
		if err := scheduler.Close(); err != nil {
			t.Fatal(err)
		}
		if err := scheduler.Signal(syscall.Signal(0)); err == nil {
			t.Error("got a scheduler that lives, want it closed")
		}
	}
}

func await(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := lab.Await(t.Context(), 2*time.Minute, what, condition); err != nil {
		t.Fatal(err)
	}
}

func awaitReady(t *testing.T, plane *lab.ControlPlane, name string, want int32) {
	t.Helper()
	await(t, "ready pods", func(ctx context.Context) error {
		pods, err := plane.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		var ready int32
		for _, pod := range pods.Items {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
					ready++
				}
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d are ready", ready, want)
		}
		return nil
	})
}

func getPod(t *testing.T, plane *lab.ControlPlane, name string) *corev1.Pod {
	t.Helper()
	pod, err := plane.Client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func statefulSet(name string, replicas int32) *appsv1.StatefulSet {
	labels := map[string]string{"app": name}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: name, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
		},
	}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "lab"}}}
}
