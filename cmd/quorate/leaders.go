package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/quorate/quorate/leaderelection"
)

type leadersOptions struct {
	*electionOptions
	namespace       string
	watch           bool
	interval, limit time.Duration
}

func newLeaders() *cobra.Command {
	o := &leadersOptions{electionOptions: newElectionOptions()}
	cmd := &cobra.Command{
		Use:   "leaders [NAME...]",
		Short: "Who leads what, since when, and who stands by",
		RunE:  func(cmd *cobra.Command, names []string) error { return o.list(cmd.Context(), cmd.OutOrStdout(), names) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on, and show every change")
	cmd.Flags().DurationVar(&o.interval, "interval", time.Second, "how often to look, with --watch")
	cmd.AddCommand(newResign(), newUnseal())
	return cmd
}

func newResign() *cobra.Command {
	o := &leadersOptions{electionOptions: newElectionOptions()}
	cmd := &cobra.Command{
		Use:   "resign NAME",
		Short: "Ask a leader to stop and let the next one lead",
		Long: `Ask the leader of an election to stop its work and give the leadership back. This
returns when it has. The next leader is the first of the standbys; without any, the
same may come back.

Only with ZooKeeper: a Lease has no way to ask its holder, and to blank it would let
another lead while the holder still works. End the holder's process instead.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return o.resign(cmd.Context(), cmd.OutOrStdout(), names[0])
		},
	}
	o.addFlags(cmd)
	cmd.Flags().DurationVar(&o.limit, "timeout", time.Minute, "how long to wait for the leader")
	return cmd
}

// addFlags binds those of the store, without what only a candidate needs.
func (o *leadersOptions) addFlags(cmd *cobra.Command) {
	o.electionOptions.addFlags(cmd)
	for _, f := range []string{
		"leader-elect-lease-duration", "leader-elect-renew-deadline", "leader-elect-retry-period", "leader-elect-resource-name",
		"leader-elect-resource-namespace", "leader-elect-zookeeper-stop-time",
	} {
		_ = cmd.Flags().MarkHidden(f)
	}
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "namespace of the election; without it, all (resign: default)")
}

// read is one look at a store.
type read func(ctx context.Context) ([]leaderelection.Election, error)

func (o *leadersOptions) list(ctx context.Context, out io.Writer, names []string) error {
	look, finish, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer finish()
	last := ""
	for tick := time.NewTicker(max(o.interval, 10*time.Millisecond)); ; {
		elections, err := look(ctx)
		if err != nil && !o.watch {
			return err
		}
		if table := tableOf(elections, names, err); table != last {
			fmt.Fprint(out, table)
			last = table
		}
		if !o.watch {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}

// open the store, to look at it.
func (o *leadersOptions) open(ctx context.Context) (read, func(), error) {
	if o.election.ResourceLock == leaderelection.Leases {
		client, err := o.leases()
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) ([]leaderelection.Election, error) {
			list, err := client.CoordinationV1().Leases(o.namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			return fromLeases(list.Items, time.Now()), nil
		}, func() {}, nil
	}
	session, finish, err := o.session(ctx)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) ([]leaderelection.Election, error) {
		ctx, cancel := context.WithTimeout(ctx, o.store.SessionTimeout)
		defer cancel()
		return session.Elections(ctx, o.namespace)
	}, finish, nil
}

func (o *leadersOptions) session(ctx context.Context) (*leaderelection.Session, func(), error) {
	if o.store.Servers == "" {
		return nil, nil, errors.New("--leader-elect-zookeeper-servers: name at least one ZooKeeper server, or choose --leader-elect-resource-lock=leases")
	}
	logs.InitLogs()
	if err := logsapi.ValidateAndApply(o.logging, nil); err != nil {
		return nil, nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, o.store.SessionTimeout)
	defer cancel()
	session, err := o.store.Dial(dialing, prometheus.NewRegistry())
	if err != nil {
		return nil, nil, err
	}
	return session, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = session.Close(ctx) // what is not closed expires, and owns nothing
	}, nil
}

func (o *leadersOptions) resign(ctx context.Context, out io.Writer, name string) error {
	if o.election.ResourceLock == leaderelection.Leases {
		return errors.New("resign: a Lease has no way to ask its holder: end the holder's process instead")
	}
	if o.namespace == "" {
		o.namespace = metav1.NamespaceDefault
	}
	session, finish, err := o.session(ctx)
	if err != nil {
		return err
	}
	defer finish()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	before, err := session.Election(ctx, o.namespace, name)
	if err != nil {
		return fmt.Errorf("resign %s/%s: %w", o.namespace, name, err)
	}
	if err := session.Resign(ctx, o.namespace, name); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s: %s has resigned\n", o.namespace, name, before.Holder)
	return nil
}

// fromLeases is what Leases say. They have no token of a term, and no standbys.
func fromLeases(leases []coordinationv1.Lease, now time.Time) []leaderelection.Election {
	var out []leaderelection.Election
	for _, l := range leases {
		e := leaderelection.Election{Namespace: l.Namespace, Name: l.Name}
		if l.Spec.LeaseTransitions != nil {
			e.Transitions = int(*l.Spec.LeaseTransitions)
		}
		if l.Spec.AcquireTime != nil {
			e.Since = l.Spec.AcquireTime.Time
		}
		if l.Spec.HolderIdentity != nil && !expired(&l, now) {
			e.Holder = *l.Spec.HolderIdentity
		}
		out = append(out, e)
	}
	return out
}

// expired by our clock, which is good enough to show.
func expired(l *coordinationv1.Lease, now time.Time) bool {
	if l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
		return false
	}
	return now.After(l.Spec.RenewTime.Add(time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second))
}

// tableOf elections, as people read it.
func tableOf(elections []leaderelection.Election, names []string, err error) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tLEADER\tSINCE\tTOKEN\tTERMS\tSTANDBYS")
	for _, e := range elections {
		if len(names) > 0 && !slices.Contains(names, e.Name) {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", e.Namespace, e.Name, orNobody(e.Holder), since(e), token(e), e.Transitions, orNobody(strings.Join(e.Standbys, ",")))
	}
	_ = w.Flush() // to memory
	if err != nil {
		fmt.Fprintln(&b, "cannot tell:", err)
	}
	return b.String()
}

func orNobody(who string) string {
	if who == "" {
		return "-"
	}
	return who
}

// since is a time of day rather than an age: with --watch a line changes only when
// something happened.
func since(e leaderelection.Election) string {
	switch {
	case e.Holder == "" || e.Since.IsZero():
		return "-"
	case time.Since(e.Since) > 24*time.Hour:
		return duration.HumanDuration(time.Since(e.Since)) + " ago"
	}
	return e.Since.Local().Format(time.TimeOnly)
}

func token(e leaderelection.Election) string {
	if e.Token == 0 {
		return "-"
	}
	return strconv.FormatInt(e.Token, 10)
}
