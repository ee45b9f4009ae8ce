package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The heap of a server and what else it needs are within the limit of its memory: by
// default zkEnv.sh gives it 1000 MB.
func TestExampleServerFitsItsMemory(t *testing.T) {
	var set appsv1.StatefulSet
	read(t, "examples/zookeeper", "StatefulSet", "zk", &set)
	c := set.Spec.Template.Spec.Containers[0]
	heap := 1000
	for _, e := range c.Env {
		if e.Name == "ZK_SERVER_HEAP" {
			heap, _ = strconv.Atoi(e.Value)
		}
	}
	if limit := int(c.Resources.Limits.Memory().Value() >> 20); heap < 64 || heap > limit*3/4 {
		t.Errorf("heap: got %d MB, want at most three quarters of the limit of %d", heap, limit)
	}
}

// Members are apart where they can be before anybody's rule places them, and none waits
// for it.
func TestExampleServersSpread(t *testing.T) {
	var set appsv1.StatefulSet
	read(t, "examples/zookeeper", "StatefulSet", "zk", &set)
	soft := map[string]bool{}
	for _, s := range set.Spec.Template.Spec.TopologySpreadConstraints {
		soft[s.TopologyKey] = s.WhenUnsatisfiable == corev1.ScheduleAnyway
	}
	if !soft[corev1.LabelTopologyZone] || !soft[corev1.LabelHostname] {
		t.Errorf("soft constraints: got %v, want zone and host", soft)
	}
}

// A server that is started anew keeps the membership that a reconfig has left, and takes
// over the settings that have changed.
func TestExampleServerKeepsItsMembership(t *testing.T) {
	s := newServer(t)
	s.start(t)
	if got := s.file(t, "data/conf/zoo.dynamic"); strings.Count(got, "server.") != 5 {
		t.Fatalf("members at first: got %q, want five", got)
	}
	config := s.file(t, "data/conf/zoo.cfg")
	for _, want := range []string{"dynamicConfigFile=" + s.dir + "/data/conf/zoo.dynamic\n", "autopurge.purgeInterval=24\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("zoo.cfg is\n%swant %s", config, want)
		}
	}
	if s.file(t, "data/conf/logback.xml") != s.file(t, "conf/logback.xml") || s.file(t, "data/myid") != "3\n" {
		t.Errorf("logback.xml or myid are wrong: %q", s.file(t, "data/myid"))
	}
	// What a server writes at a reconfig.
	s.write(t, "data/conf/zoo.cfg", strings.Replace(config, "zoo.dynamic\n", "zoo.dynamic.100000003\n", 1))
	s.write(t, "config/zoo.cfg", strings.Replace(s.file(t, "config/zoo.cfg"), "syncLimit=5", "syncLimit=7", 1))
	s.start(t)
	config = s.file(t, "data/conf/zoo.cfg")
	if !strings.Contains(config, "zoo.dynamic.100000003\n") || strings.Count(config, "dynamicConfigFile=") != 1 {
		t.Errorf("zoo.cfg is\n%swant the membership that it named", config)
	}
	if !strings.Contains(config, "syncLimit=7\n") {
		t.Errorf("zoo.cfg is\n%swant the setting that has changed", config)
	}
}

// rooted are the paths of the script.
var rooted = regexp.MustCompile(`(?m)(^|[\s"=])/(data|config|conf)\b`)

// server is the root of a file system in which the example's script is run.
type server struct{ dir, script string }

func newServer(t *testing.T) server {
	t.Helper()
	s := server{dir: t.TempDir()}
	var config corev1.ConfigMap
	read(t, "examples/zookeeper", "ConfigMap", "zk", &config)
	s.script = rooted.ReplaceAllString(config.Data["start.sh"], "${1}"+s.dir+"/${2}")
	for name, text := range map[string]string{
		"config/zoo.cfg": config.Data["zoo.cfg"], "conf/logback.xml": "<configuration/>\n", "bin/zkServer.sh": "#!/bin/sh\n",
	} {
		s.write(t, name, text)
	}
	return s
}

func (s server) start(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", s.script)
	cmd.Env = []string{"HOSTNAME=zk-2", "PATH=" + filepath.Join(s.dir, "bin") + ":" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("start.sh: %v: %s\n%s", err, out, s.script)
	}
}

func (s server) file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s server) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
