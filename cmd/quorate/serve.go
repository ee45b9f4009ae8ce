package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/extender"
)

// serveOptions are the flags of serve. Those that were given win over the file.
type serveOptions struct {
	config, kubeconfig  string
	extender            bool
	extenderBindAddress string
}

func newServe() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Guard evictions and keep status; with --extender, place voters for the scheduler beside it",
		Args:  cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.StringVar(&o.config, "config", "", "file with a QuorateConfiguration; without it the defaults hold")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server; without it the pod's service account is used")
	fs.BoolVar(&o.extender, "extender", false, "answer the scheduler that runs beside")
	fs.StringVar(&o.extenderBindAddress, "extender-bind-address", "", "host:port to answer the scheduler on")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		source := &config.Source{Path: o.config, Override: func(c *config.QuorateConfiguration) error { return o.override(cmd, c) }}
		c, err := source.Load()
		if err != nil {
			return err
		}
		if err := logsapi.ValidateAndApply(&c.Logging, nil); err != nil {
			return fmt.Errorf("set up logging: %w", err)
		}
		return serve(cmd.Context(), c)
	}
	return cmd
}

func (o *serveOptions) override(cmd *cobra.Command, c *config.QuorateConfiguration) error {
	changed := cmd.Flags().Changed
	if changed("kubeconfig") {
		c.ClientConnection.Kubeconfig = o.kubeconfig
	}
	if changed("extender") {
		c.Extender.Enabled = o.extender
	}
	if changed("extender-bind-address") {
		c.Extender.BindAddress = o.extenderBindAddress
	}
	return nil
}

// serve runs what is enabled until ctx ends or one of it fails.
func serve(ctx context.Context, c *config.QuorateConfiguration) error {
	rc, err := clientConfig(&c.ClientConnection)
	if err != nil {
		return err
	}
	if !c.Extender.Enabled {
		return errors.New("nothing to serve: pass --extender")
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := serveExtender(ctx, group, rc, &c.Extender); err != nil {
		return err
	}
	return group.Wait()
}

// serveExtender starts the extender beside its scheduler.
func serveExtender(ctx context.Context, group *errgroup.Group, rc *rest.Config, c *config.Extender) error {
	client, ensembles, informer, err := watchMembership(rc)
	if err != nil {
		return err
	}
	annotator := extender.NewAnnotator(client)
	placer := extender.NewPlacer(extender.PlacerConfig{
		Membership: informer, Poker: annotator, Timing: extender.Timing{Landing: c.BindLandingTimeout.Duration},
	})
	resolver := extender.NewResolver(extender.ResolverConfig{Membership: informer, Ensembles: ensembles})
	server, err := extender.NewServer(extender.ServerConfig{
		Placer: placer, BindAddress: c.BindAddress,
		TLS: extender.TLSFiles{CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ClientCAFile: c.TLS.ClientCAFile},
	})
	if err != nil {
		return err
	}
	run := func(f func(context.Context) error) { group.Go(func() error { return f(ctx) }) }
	if namespace, name, ok := strings.Cut(c.SchedulerLease, "/"); ok {
		watch := &extender.LeaseWatch{Client: client, Lease: types.NamespacedName{Namespace: namespace, Name: name}, Placer: placer}
		run(watch.Run)
	}
	run(informer.Run)
	run(annotator.Run)
	run(resolver.Run)
	run(placer.Run)
	run(server.Run)
	return nil
}

// watchMembership makes the informer that everything asks; the built-in kinds come
// as protobuf.
func watchMembership(rc *rest.Config) (kubernetes.Interface, rest.Interface, *membership.Informer, error) {
	ensembles, err := membership.NewClient(rc)
	if err != nil {
		return nil, nil, nil, err
	}
	compact := rest.CopyConfig(rc)
	compact.ContentType, compact.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(compact)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	return client, ensembles, membership.NewInformer(membership.SourcesOf(client, ensembles), nil), nil
}

func clientConfig(c *config.ClientConnection) (*rest.Config, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	rc.QPS, rc.Burst = c.QPS, c.Burst
	return rc, nil
}
