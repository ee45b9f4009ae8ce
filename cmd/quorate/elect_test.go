package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/leaderelection"
)

// What cannot work is refused at start, with a word on what to do.
func TestElectionsAreRefused(t *testing.T) {
	const servers = "--leader-elect-zookeeper-servers=127.0.0.1:1"
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no command":        {[]string{"elect", servers, "--leader-elect-resource-name=x"}, 125, "name a command to run"},
		"unknown flag":      {[]string{"elect", "--nonsense", "--", "true"}, 125, "unknown flag: --nonsense"},
		"both stores":       {[]string{"elect", servers, "--leader-elect-resource-name=x", "--leader-elect-resource-lock=leases-and-zookeeper", "--", "true"}, 125, "choose one store"},
		"no servers":        {[]string{"elect", "--leader-elect-resource-name=x", "--", "true"}, 125, "--leader-elect-zookeeper-servers: Required value"},
		"short session":     {[]string{"elect", servers, "--leader-elect-resource-name=x", "--leader-elect-zookeeper-stop-time=9s", "--", "true"}, 125, "must be at least 15s = --leader-elect-zookeeper-stop-time"},
		"resign a Lease":    {[]string{"leaders", "resign", "x", "--leader-elect-resource-lock=leases"}, 1, "end the holder's process instead"},
		"leaders of no one": {[]string{"leaders"}, 1, "or choose --leader-elect-resource-lock=leases"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), c.args, &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("exit code and message: got %d and %q, want %d and %q", code, stderr.String(), c.code, c.want)
			}
		})
	}
}

// The defaults fit together, and are quick where that costs nothing.
func TestElectDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		lease time.Duration
	}{
		"ZooKeeper":                       {nil, 3 * time.Second},
		"Leases":                          {[]string{"--leader-elect-resource-lock=leases"}, 15 * time.Second},
		"ZooKeeper, one duration was set": {[]string{"--leader-elect-retry-period=1s"}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			o := electOptions{electionOptions: newElectionOptions()}
			fs := newElectFlags(&o).Flags()
			if err := fs.Parse(append(c.args, "--leader-elect-zookeeper-servers=zk", "--leader-elect-resource-name=x")); err != nil {
				t.Fatal(err)
			}
			o.setDefaults(fs)
			if err := o.validate(); err != nil {
				t.Error(err)
			}
			if got := o.election.LeaseDuration.Duration; got != c.lease {
				t.Errorf("lease duration: got %v, want %v", got, c.lease)
			}
		})
	}
}

// The example that is shipped is taken, flags and all, and finds us where they are put.
func TestExampleOfElect(t *testing.T) {
	page, err := os.ReadFile("../../deploy/examples/elect/kube-controller-manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(page, &pod); err != nil {
		t.Fatal(err)
	}
	o := electOptions{electionOptions: newElectionOptions()}
	fs := newElectFlags(&o).Flags()
	if err := fs.Parse(pod.Spec.Containers[0].Command[2:]); err != nil {
		t.Fatal(err)
	}
	o.setDefaults(fs)
	if err := o.validate(); err != nil {
		t.Error(err)
	}
	if o.election.ResourceLock != leaderelection.ZooKeeper || fs.Arg(0) != "kube-controller-manager" {
		t.Errorf("store and command: got %s and %v", o.election.ResourceLock, fs.Args())
	}
	install, shared := pod.Spec.InitContainers[0], t.TempDir()
	in := func(c corev1.Container, name string) string {
		return strings.Replace(name, c.VolumeMounts[0].MountPath, shared, 1)
	}
	var said bytes.Buffer
	if code := run(t.Context(), []string{install.Args[0], in(install, install.Args[1])}, &said, &said); code != 0 {
		t.Fatalf("%v: exit code %d, %s", install.Args, code, &said)
	}
	wrapped := pod.Spec.Containers[0]
	if file, err := os.Stat(in(wrapped, wrapped.Command[0])); err != nil || file.Mode().Perm() != 0o755 {
		t.Errorf("what was installed: %v (%v), want a program", file, err)
	}
	if install.VolumeMounts[0].Name != wrapped.VolumeMounts[0].Name {
		t.Errorf("volumes: got %s and %s, want the same", install.VolumeMounts[0].Name, wrapped.VolumeMounts[0].Name)
	}
}
