package election

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

// quorate is the binary under test.
var quorate string

// roles are what this test binary can be started as, by the variable ROLE.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("ROLE")]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// They wait for most of their time: more fit than there may be processors.
	err := flag.Set("test.parallel", "4")
	dir, dirErr := os.MkdirTemp("", "quorate-election-")
	if err := errors.Join(err, dirErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	quorate = filepath.Join(dir, "quorate")
	build := exec.Command("go", "build", "-o", quorate, "github.com/quorate/quorate/cmd/quorate") //nolint:noctx // go test bounds it
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build quorate: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(closeShared(), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// longForm is whether faults are run for long, on a machine that does nothing else.
func longForm() bool { return os.Getenv("QUORATE_CHAOS") != "" }

// together lets a test run beside others, in the short form: in the long one it has
// the machine for itself.
func together(t *testing.T) {
	if !longForm() {
		t.Parallel()
	}
}

// shared is an ensemble whose servers nobody hurts.
var shared struct {
	start    sync.Once
	ensemble *lab.Ensemble
	err      error
}

func sharedEnsemble(t *testing.T) *lab.Ensemble {
	t.Helper()
	shared.start.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // it outlives the test
		defer cancel()
		shared.ensemble, shared.err = lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{TickTime: tick})
	})
	return must(shared.ensemble, shared.err)(t)
}

func closeShared() error {
	if shared.ensemble == nil {
		return nil
	}
	return shared.ensemble.Close()
}

// await polls a condition on real parts: the machine may be busy, so it is patient.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
