package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// need is something that a Debian package brings.
type need struct {
	what    string // in words
	pkg     string // Debian's name of the package
	path    string // a file that must be there,
	command string // or a command that must be found
}

var needs = []need{
	{what: "ZooKeeper 3.8", pkg: "zookeeper", path: "/usr/share/java/zookeeper.jar"},
	{what: "ZooKeeper's AdminServer (servlet API)", pkg: "libservlet-api-java", path: "/usr/share/java/servlet-api.jar"},
	{what: "a Java runtime", pkg: "default-jre-headless", command: "java"},
	{what: "network namespaces (ip)", pkg: "iproute2", command: "ip"},
}

// peers are what the benchmarks are measured beside, and nothing else needs.
var peers = []need{
	{what: "Curator", pkg: "libcurator-recipes-java", path: "/usr/share/java/curator-recipes.jar"},
	{what: "BeanShell, which runs a script of Curator's", pkg: "bsh", path: "/usr/share/java/bsh.jar"},
}

// host is what decides whether packages can be installed.
type host struct {
	root    bool
	apt     bool
	present func(need) bool
	install func(ctx context.Context, packages []string, out io.Writer) error
}

func thisHost() host {
	_, err := exec.LookPath("apt-get")
	return host{root: os.Geteuid() == 0, apt: err == nil, present: present, install: aptInstall}
}

func present(n need) bool {
	if n.path != "" {
		_, err := os.Stat(n.path)
		return err == nil
	}
	_, err := exec.LookPath(n.command)
	return err == nil
}

// installMissing installs what is not there, or says what it is and how to get it.
func installMissing(ctx context.Context, h host, needs []need, out io.Writer) error {
	var packages, missing []string
	for _, n := range needs {
		if !h.present(n) {
			packages = append(packages, n.pkg)
			missing = append(missing, n.what)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	command := "apt-get update && apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	switch {
	case !h.apt:
		return fmt.Errorf("%s missing, and there is no apt-get here to install it: the tests and the demo need Debian 12 (or a container of it), where this brings it:\n\t%s",
			strings.Join(missing, ", "), command)
	case !h.root:
		return fmt.Errorf("%s missing, and only root may install it. Run once:\n\tsudo sh -c '%s'", strings.Join(missing, ", "), command)
	}
	fmt.Fprintf(out, "installing %s (packages %s)\n", strings.Join(missing, ", "), strings.Join(packages, " "))
	if err := h.install(ctx, packages, out); err != nil {
		return fmt.Errorf("install %s: %w\ntry it by hand:\n\t%s", strings.Join(packages, " "), err, command)
	}
	for _, n := range needs {
		if slices.Contains(packages, n.pkg) && !h.present(n) {
			return fmt.Errorf("package %s is installed, but %s is still missing (looked for %s%s): is this Debian 12?", n.pkg, n.what, n.path, n.command)
		}
	}
	return nil
}

// aptInstall runs apt-get and says how long it has taken already.
func aptInstall(ctx context.Context, packages []string, out io.Writer) error {
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}, packages...),
	} {
		if err := aptGet(ctx, args, out); err != nil {
			return err
		}
	}
	return nil
}

func aptGet(ctx context.Context, args []string, out io.Writer) error {
	var said strings.Builder
	apt := exec.CommandContext(ctx, "apt-get", args...)
	apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	apt.Stdout, apt.Stderr = &said, &said
	// A group of its own: an interrupt reaches it once, through ctx, as a request to
	// end, so that it leaves no half-configured package.
	apt.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	apt.Cancel = func() error { return syscall.Kill(-apt.Process.Pid, syscall.SIGTERM) }
	apt.WaitDelay = 30 * time.Second
	if err := apt.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- apt.Wait() }()
	began := time.Now()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(out, "apt-get %s: %s so far\n", args[0], time.Since(began).Round(time.Second))
		case err := <-done:
			if err != nil {
				return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, strings.TrimSpace(said.String()))
			}
			return nil
		}
	}
}
