// Command quorate keeps Kubernetes controllers and quorum ensembles alive: it
// elects leaders through ZooKeeper, places voters so that no failure domain holds a
// fatal share of them, and refuses evictions that would break a quorum.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: the exit code is its result.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "quorate",
		Short:         "Keeps Kubernetes controllers and quorum ensembles alive",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Version = version.Get().GitVersion
	root.AddCommand(newServe(), newElect(), newGuard(), newLeaders(), newInstall())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	chosen := &exitError{code: 1, err: err}
	errors.As(err, &chosen)
	if chosen.err != nil {
		fmt.Fprintln(stderr, "quorate:", chosen.err)
	}
	return chosen.code
}
