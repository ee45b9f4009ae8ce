package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of client-go
	_ "k8s.io/component-base/metrics/prometheus/version"  // build info
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/cmd/quorate/internal/audit"
	"github.com/quorate/quorate/cmd/quorate/internal/config"
	"github.com/quorate/quorate/cmd/quorate/internal/serving"
	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// process is one `quorate serve`: what its parts share, and the parts.
type process struct {
	config *config.QuorateConfiguration
	source *config.Source
	id     identity

	rest *rest.Config
	// live reads from the API server, never from a cache.
	live     client.Client
	client   kubernetes.Interface
	events   events.EventBroadcaster
	recorder events.EventRecorder

	// registry has all metrics of our own, so that the extender serves them, too.
	registry *prometheus.Registry
	metrics  *processMetrics
	ready    *serving.Readiness
	// works returns as long as nobody holds for ever what every answer needs.
	works func()

	// What membership returns, once somebody wanted it.
	compact   kubernetes.Interface
	ensembles rest.Interface
	informer  *membership.Informer

	// grants are remembered by the guard and the status controller alike.
	grants  *admission.Memory
	auditor *audit.Auditor

	// servers are drained when the process ends, parts run until they are, and
	// elected ones end at once.
	servers []*serving.Server
	parts   []func(context.Context) error
	elected []func(context.Context) error
	reloads []func(*config.QuorateConfiguration)
}

// newProcess puts together what the configuration enables. Nothing runs yet.
func newProcess(c *config.QuorateConfiguration, source *config.Source, id identity) (*process, error) {
	rc, err := clientConfig(&c.ClientConnection)
	if err != nil {
		return nil, err
	}
	p := &process{
		config: c, source: source, id: id, rest: rc,
		registry: prometheus.NewRegistry(), ready: &serving.Readiness{}, works: func() {}, grants: admission.NewMemory(admission.Remembered),
	}
	p.metrics = newProcessMetrics(p.registry)
	if err := p.connect(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) connect() error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("register APIs: %w", err)
		}
	}
	var err error
	if p.live, err = client.New(p.rest, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	if p.client, err = kubernetes.NewForConfig(p.rest); err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	p.events = events.NewBroadcaster(&events.EventSinkImpl{Interface: p.client.EventsV1()})
	p.recorder = p.events.NewRecorder(scheme, "quorate")
	return nil
}

// run serves until ctx ends or a part fails, and ends everything in order: elections
// at once, then the servers, once nobody is sent here any more, then all the rest.
func (p *process) run(ctx context.Context) error {
	ctrllog.SetLogger(klog.Background())
	if err := p.assemble(ctx); err != nil {
		return err
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if err := p.events.StartRecordingToSinkWithContext(background); err != nil {
		return fmt.Errorf("record events: %w", err)
	}
	group, background := errgroup.WithContext(background)
	serve, stop := context.WithCancel(ctx)
	defer stop()
	release := context.AfterFunc(background, stop) // a part that fails ends the servers
	defer release()
	for _, part := range p.parts {
		group.Go(func() error { return part(background) })
	}
	for _, part := range p.elected {
		group.Go(func() error { return part(serve) })
	}
	group.Go(func() error {
		defer end()
		return serving.Run(serve, serving.Drain{
			Ready: p.ready, Delay: p.config.Shutdown.Delay.Duration, Timeout: p.config.Shutdown.Timeout.Duration,
		}, p.servers...)
	})
	err := group.Wait()
	p.events.Shutdown()
	klog.FromContext(ctx).Info("Ended")
	return err
}

// assemble opens listeners and makes the parts.
func (p *process) assemble(ctx context.Context) error {
	steps := []struct {
		enabled bool
		make    func(context.Context) error
	}{
		{p.config.Webhook.Enabled, p.addWebhook},
		{p.config.StatusController.Enabled, p.addStatus},
		{p.config.Extender.Enabled, p.addExtender},
		{p.config.SelfAudit.Enabled, p.addAudit},
		{p.config.Metrics.BindAddress != "", p.addMetrics},
		{p.config.Health.BindAddress != "", p.addHealth},
		{p.source.Path != "", p.addReload},
	}
	for _, step := range steps {
		if !step.enabled {
			continue
		}
		if err := step.make(ctx); err != nil {
			for _, s := range p.servers {
				_ = s.Listener.Close()
			}
			return err
		}
	}
	return nil
}

func (p *process) addHealth(ctx context.Context) error {
	listener, err := serving.Listen(ctx, "health", p.config.Health.BindAddress)
	if err != nil {
		return err
	}
	p.servers = append(p.servers, &serving.Server{Name: "health", Listener: listener, Handler: serving.HealthMux(p.works, p.ready), Last: true})
	return nil
}

// reloadInterval is how often the configuration file is looked at.
const reloadInterval = time.Second

func (p *process) addReload(context.Context) error {
	p.reloads = append(p.reloads, func(c *config.QuorateConfiguration) {
		_, _ = logs.GlogSetter(strconv.FormatUint(uint64(c.Logging.Verbosity), 10)) // a number is never refused
	})
	p.parts = append(p.parts, func(ctx context.Context) error {
		p.source.Run(ctx, p.config, reloadInterval, func(change config.Change) { p.reload(ctx, change) })
		return nil
	})
	return nil
}

func (p *process) reload(ctx context.Context, change config.Change) {
	log := klog.FromContext(ctx)
	if change.Err != nil {
		p.metrics.refused.Set(1)
		return
	}
	for _, apply := range p.reloads {
		apply(change.Config)
	}
	p.metrics.refused.Set(0) // what the metrics and the log say is so already
	p.metrics.waiting.Set(float64(len(change.Waits)))
	log.Info("Read the configuration again", "applies", change.Applies, "waitsForRestart", change.Waits)
}

// identityOfCandidate is unique for each start: a replica that restarts is another one.
func (p *process) identityOfCandidate() string { return p.id.name + "_" + uuid.NewString() }

func clientConfig(c *config.ClientConnection) (*rest.Config, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	rc.QPS, rc.Burst = c.QPS, c.Burst
	rc.UserAgent = "quorate"
	return rc, nil
}
