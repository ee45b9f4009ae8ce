package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// KubernetesVersion is what the lab's control plane says that it is.
const KubernetesVersion = "v1.36.3"

// components are the names that the one binary is called by.
var components = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}

// Build returns the folder that holds etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl. It builds them in the user's
// cache folder the first time, and again when their sources or the Go version
// change; otherwise it takes some tens of milliseconds. Several callers at once, in
// several processes too, build once. What it is doing, and for how long already, is
// written to progress every ten seconds.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	source, err := controlPlaneSource()
	if err != nil {
		return "", err
	}
	key, err := buildKey(ctx, source)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder for the control plane (set HOME or XDG_CACHE_HOME): %w", err)
	}
	cache = filepath.Join(cache, "quorate")
	dir := filepath.Join(cache, "controlplane-"+key)
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, dir+".lock", progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) {
		return dir, nil // another process built it while this one waited
	}
	return dir, buildInto(ctx, source, dir, progress)
}

// Built says whether Build has nothing to do.
func Built(ctx context.Context) bool {
	source, err := controlPlaneSource()
	if err != nil {
		return false
	}
	key, err := buildKey(ctx, source)
	if err != nil {
		return false
	}
	cache, err := os.UserCacheDir()
	return err == nil && complete(filepath.Join(cache, "quorate", "controlplane-"+key))
}

// ModuleRoot is the folder of this repository: the nearest one upwards from the
// working directory with this module's go.mod.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module github.com/quorate/quorate\n")) {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("find the sources of the control plane: run this inside the repository github.com/quorate/quorate")
	}
}

func controlPlaneSource() (string, error) {
	root, err := ModuleRoot()
	return filepath.Join(root, "test", "controlplane"), err
}

// buildKey changes with whatever the result of the build depends on.
func buildKey(ctx context.Context, source string) (string, error) {
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
	}
	version := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	version.Dir = source
	out, err := version.Output()
	if err != nil {
		return "", fmt.Errorf("ask for the Go version: %w", err)
	}
	sum.Write(out)
	fmt.Fprint(sum, strings.Join(buildFlags(), " "))
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// buildFlags are such that packages of our own programs are compiled once for both: no
// -trimpath, and versions in the two go.mod that agree.
func buildFlags() []string {
	version := []string{"-s -w"}
	for _, set := range []string{
		"gitVersion=" + KubernetesVersion, "gitMajor=1", "gitMinor=36", "gitTreeState=clean",
		"gitCommit=0000000000000000000000000000000000000000", "buildDate=1970-01-01T00:00:00Z",
	} {
		version = append(version, "-X k8s.io/component-base/version."+set)
	}
	return []string{"-mod=readonly", "-buildvcs=false", "-ldflags", strings.Join(version, " ")}
}

// complete: the folder is renamed into place when everything is in it.
func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, components[0]))
	return err == nil
}

// buildInto builds in a folder beside dir and renames it, so that dir is either
// absent or whole.
func buildInto(ctx context.Context, source, dir string, progress io.Writer) error {
	half, err := os.MkdirTemp(filepath.Dir(dir), "building-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(half) }()
	work := filepath.Join(half, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(progress, "building the control plane (etcd, Kubernetes %s), once for this machine: about 7 minutes on two cores\n", KubernetesVersion)
	began := time.Now()
	if err := goBuild(ctx, source, filepath.Join(half, "controlplane"), work, progress); err != nil {
		return err
	}
	for _, name := range components {
		if err := os.Symlink("controlplane", filepath.Join(half, name)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.Chmod(half, 0o755); err != nil {
		return err
	}
	if err := os.Rename(half, dir); err != nil {
		return fmt.Errorf("keep the control plane: %w", err)
	}
	fmt.Fprintf(progress, "built the control plane in %s: %s\n", time.Since(began).Round(time.Second), dir)
	return nil
}

// goBuild builds the control plane and says how long it takes. The user's GOFLAGS
// and GOWORK are about their own module and would only break this one.
func goBuild(ctx context.Context, source, binary, work string, progress io.Writer) error {
	done := make(chan error, 1)
	go func() {
		done <- build(ctx, source, binary, []string{"GOFLAGS=", "GOWORK=off", "GOTMPDIR=" + work}, buildFlags(), ".")
	}()
	return report(progress, "building the control plane", done)
}

// BuildProgram builds a package of this module, such as ./cmd/quorate, into a file, and
// says for how long already.
func BuildProgram(ctx context.Context, progress io.Writer, binary, pkg string) error {
	root, err := ModuleRoot()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- build(ctx, root, binary, nil, nil, pkg) }()
	return report(progress, "building "+pkg, done)
}

// build runs go build in a process group of its own: an interrupt reaches it
// through ctx, once, and the compilers with it, and it removes its working files.
func build(ctx context.Context, dir, binary string, env, flags []string, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build"}, flags, []string{"-o", binary, pkg})...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build %s in %s: %w", pkg, dir, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build %s in %s: %w\n%s", pkg, dir, err, lastLines(string(out), 20))
	}
	return nil
}

// report says every ten seconds how long something has taken already, until it is done.
func report(progress io.Writer, what string, done <-chan error) error {
	began := time.Now()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			fmt.Fprintf(progress, "%s: %s so far\n", what, time.Since(began).Round(time.Second))
		}
	}
}

// lockFile holds path for this process until unlock; the kernel lets go of it if
// the process dies.
func lockFile(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	var said time.Duration
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-poll.C:
		}
		if waited := time.Since(began); waited > said+10*time.Second {
			said = waited
			fmt.Fprintf(progress, "another process is building the control plane: waiting for %s so far\n", waited.Round(time.Second))
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
