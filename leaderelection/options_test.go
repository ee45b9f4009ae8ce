package leaderelection_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/config"

	"github.com/quorate/quorate/leaderelection"
)

func defaults() *config.LeaderElectionConfiguration {
	return &config.LeaderElectionConfiguration{
		LeaderElect: true, ResourceLock: leaderelection.Leases, ResourceName: "x", ResourceNamespace: "ns",
		LeaseDuration: metav1.Duration{Duration: 15 * time.Second},
		RenewDeadline: metav1.Duration{Duration: 10 * time.Second},
		RetryPeriod:   metav1.Duration{Duration: 2 * time.Second},
	}
}

func parse(t *testing.T, args ...string) error {
	t.Helper()
	c, o, fs := defaults(), leaderelection.NewOptions(), pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(fs, c)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o.Validate(c)
}

// The store is chosen by one flag, and where it is by another; all else is good by
// default.
func TestOneFlagChoosesTheStore(t *testing.T) {
	if err := parse(t); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for _, lock := range []string{"zookeeper", "leases-and-zookeeper"} {
		if err := parse(t, "--leader-elect-resource-lock="+lock, "--leader-elect-zookeeper-servers=zk-0,zk-1,zk-2/chroot"); err != nil {
			t.Errorf("%s: %v", lock, err)
		}
	}
}

// All problems at once, each by its flag.
func TestOptionsReportAllProblems(t *testing.T) {
	err := parse(t, "--leader-elect-resource-lock=zookeeper", "--leader-elect-lease-duration=1500ms", "--leader-elect-retry-period=20s",
		"--leader-elect-zookeeper-tls-cert-file=x", "--leader-elect-zookeeper-session-timeout=10s", "--leader-elect-zookeeper-stop-time=11s",
		"--leader-elect-resource-name=")
	if err == nil {
		t.Fatal("no problem found")
	}
	for _, want := range []string{
		"--leader-elect-lease-duration: Invalid value: \"1.5s\": must be greater than --leader-elect-renew-deadline, 10s",
		"--leader-elect-lease-duration: Invalid value: \"1.5s\": must be whole seconds",
		"--leader-elect-renew-deadline: Invalid value: \"10s\": must be greater than 24s, 1.2 times --leader-elect-retry-period",
		"--leader-elect-resource-name: Required value",
		"--leader-elect-zookeeper-servers: Required value",
		"--leader-elect-zookeeper-tls-key-file: Required value",
		"--leader-elect-zookeeper-stop-time: Invalid value: \"11s\": must be less than --leader-elect-renew-deadline, 10s",
		"--leader-elect-zookeeper-session-timeout: Invalid value: \"10s\": must be at least",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q:\n%v", want, err)
		}
	}
	if err := parse(t, "--leader-elect-resource-lock=leases-and-zookeeper", "--leader-elect-zookeeper-servers=zk:2181", "--leader-elect-zookeeper-stop-time=3s",
		"--leader-elect-zookeeper-session-timeout=1m"); err == nil ||
		!strings.Contains(err.Error(), "--leader-elect-lease-duration: Invalid value: \"15s\": must be at least 16s = --leader-elect-retry-period + --leader-elect-renew-deadline + --leader-elect-zookeeper-stop-time + 1s") {
		t.Errorf("a Lease that does not last until the work has stopped: %v", err)
	}
	c, o := defaults(), leaderelection.NewOptions()
	c.ResourceLock, o.Servers, o.UsesRun = leaderelection.LeasesAndZooKeeper, "zk:2181", true
	if err := o.Validate(c); err == nil || !strings.Contains(err.Error(), "--leader-elect-resource-lock: Invalid value: \"leases-and-zookeeper\": ") {
		t.Errorf("both stores in a program that elects by Run, which holds one: %v", err)
	}
	if err := parse(t, "--leader-elect-resource-lock=endpoints"); err == nil || !strings.Contains(err.Error(), `supported values: "leases", "zookeeper", "leases-and-zookeeper"`) {
		t.Errorf("unknown lock: %v", err)
	}
}

// Files are checked before anything is dialled.
func TestOptionsReadTheirFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"auth-file=" + file:              "does not hold SCHEME:CREDENTIAL",
		"auth-file=" + file + "-missing": "--leader-elect-zookeeper-auth-file",
		"tls-ca-file=" + file:            "holds no certificate",
	} {
		c, o, fs := defaults(), leaderelection.NewOptions(), pflag.NewFlagSet("test", pflag.ContinueOnError)
		o.AddFlags(fs, c)
		if err := fs.Parse([]string{"--leader-elect-resource-lock=zookeeper", "--leader-elect-zookeeper-servers=127.0.0.1:1", "--leader-elect-zookeeper-" + flag}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(t.Context(), c, leaderelection.Settings{Identity: "a"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flag, err, want)
		}
	}
}
