// Command setup brings what the tests and the demo need and Go modules cannot:
// ZooKeeper, a Java runtime and iproute2 from the distribution's packages, the control
// plane, built once per machine from its Go modules, and others' CRDs. It is done at once
// when everything is there already. Where it cannot install something, it says
// exactly what is missing and how to get it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/quorate/quorate/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("setup", flag.ContinueOnError)
	only := flags.String("only", "", `"packages" leaves the control plane out, "peers" brings what benchmarks are measured beside`)
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch *only {
	case "", "packages":
	case "peers":
		return installMissing(ctx, thisHost(), peers, out)
	default:
		return fmt.Errorf(`-only %q: it can be "packages" or "peers"`, *only)
	}
	if err := errors.Join(enoughMemory(), installMissing(ctx, thisHost(), needs, out)); err != nil {
		return err
	}
	if *only == "packages" {
		return nil
	}
	if _, err := lab.Definitions(ctx); err != nil {
		return err
	}
	_, err := lab.Build(ctx, out)
	return err
}
