package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
)

type unsealOptions struct {
	leadersOptions
	force bool
}

func newUnseal() *cobra.Command {
	o := &unsealOptions{leadersOptions: leadersOptions{electionOptions: newElectionOptions()}}
	cmd := &cobra.Command{
		Use:   "unseal NAME",
		Short: "Take the tombstone from a Lease, on the way back from ZooKeeper",
		Long: `Take the tombstone from the Lease of an election that had moved to ZooKeeper, so that
replicas that know only the Lease can lead again.

Stop all replicas that elect by ZooKeeper before: while one of them runs, another could
lead beside it. This looks for them in ZooKeeper first, and refuses while there are any.
A rolling update back through leases-and-zookeeper does not need this command.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return o.unseal(cmd.Context(), cmd.OutOrStdout(), names[0])
		},
	}
	o.addFlags(cmd)
	_ = cmd.Flags().MarkHidden("leader-elect-resource-lock")
	cmd.Flags().Lookup("namespace").Usage = "namespace of the election (default \"default\")"
	cmd.Flags().BoolVar(&o.force, "force", false, "do not look in ZooKeeper: it is gone for good, or nobody elects by it any more")
	cmd.Flags().DurationVar(&o.limit, "timeout", 30*time.Second, "how long to wait for the stores")
	return cmd
}

func (o *unsealOptions) unseal(ctx context.Context, out io.Writer, name string) error {
	if o.namespace == "" {
		o.namespace = metav1.NamespaceDefault
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	client, err := o.leases()
	if err != nil {
		return err
	}
	if !o.force {
		if err := o.deserted(ctx, name); err != nil {
			return fmt.Errorf("unseal %s/%s: %w", o.namespace, name, err)
		}
	}
	found, err := leaderelection.Unseal(ctx, client.CoordinationV1(), o.namespace, name)
	if err != nil {
		return err
	}
	if !found {
		fmt.Fprintf(out, "%s/%s: the Lease has no tombstone\n", o.namespace, name)
		return nil
	}
	fmt.Fprintf(out, "%s/%s: replicas that know only the Lease can lead again\n", o.namespace, name)
	return nil
}

// deserted is nil if nobody takes part in the election in ZooKeeper.
func (o *unsealOptions) deserted(ctx context.Context, name string) error {
	if o.store.Servers == "" {
		return errors.New("name the servers by --leader-elect-zookeeper-servers, to see whether anybody still elects by them, or say --force")
	}
	session, finish, err := o.session(ctx)
	if err != nil {
		return err
	}
	defer finish()
	e, err := session.Election(ctx, o.namespace, name)
	if errors.Is(err, zookeeper.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	return takesPart(e)
}

// takesPart is who takes part in an election, or nil if nobody does.
func takesPart(e leaderelection.Election) error {
	who := slices.Clone(e.Standbys)
	if e.Holder != "" {
		who = append(who, e.Holder)
	}
	if len(who) == 0 {
		return nil
	}
	return fmt.Errorf("in ZooKeeper there still are %s: stop them first", strings.Join(who, ", "))
}
