package main

import (
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/quorate/quorate/cmd/quorate/internal/audit"
	"github.com/quorate/quorate/cmd/quorate/internal/config"
	shipped "github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/test/deploy"
)

// installation is what a folder of deploy/ applies.
type installation struct {
	t       *testing.T
	objects []*unstructured.Unstructured
}

func installationOf(t *testing.T, folder string) installation {
	t.Helper()
	objects, err := deploy.Render("../../deploy", folder)
	if err != nil {
		t.Fatal(err)
	}
	return installation{t, objects}
}

// read the one object of that kind and name.
func (in installation) read(kind, name string, into any) {
	in.t.Helper()
	for _, o := range in.objects {
		if o.GetKind() == kind && o.GetName() == name {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
				in.t.Fatal(err)
			}
			return
		}
	}
	in.t.Fatalf("no %s %s", kind, name)
}

// guard is the Deployment's pod, and the configuration that its process is given.
func (in installation) guard() (*appsv1.Deployment, *config.QuorateConfiguration) {
	in.t.Helper()
	var d appsv1.Deployment
	in.read("Deployment", "quorate", &d)
	return &d, in.configuration(&d.Spec.Template.Spec, &d.Spec.Template.Spec.Containers[0])
}

// configuration that a container finds where its arguments say that it is.
func (in installation) configuration(pod *corev1.PodSpec, c *corev1.Container) *config.QuorateConfiguration {
	in.t.Helper()
	k := slices.IndexFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, "--config=") })
	if k < 0 {
		in.t.Fatalf("arguments of %s: got %v, want --config", c.Name, c.Args)
	}
	file := strings.TrimPrefix(c.Args[k], "--config=")
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if m.MountPath != path.Dir(file) || v.Name != m.Name || v.ConfigMap == nil {
				continue
			}
			var from corev1.ConfigMap
			in.read("ConfigMap", v.ConfigMap.Name, &from)
			parsed, err := config.Parse([]byte(from.Data[path.Base(file)]))
			if err != nil {
				in.t.Fatalf("%s of ConfigMap %s: %v", path.Base(file), from.Name, err)
			}
			return parsed
		}
	}
	in.t.Fatalf("%s is not mounted from a ConfigMap", file)
	return nil
}

// reaches that a Service's port ends in the port of that address.
func (in installation) reaches(service, namespace string, port int32, d *appsv1.Deployment, address string) {
	in.t.Helper()
	var s corev1.Service
	in.read("Service", service, &s)
	if s.Namespace != namespace || s.Namespace != d.Namespace || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
		in.t.Errorf("Service %s/%s selects %v, and the pods of %s are labelled %v", s.Namespace, s.Name, s.Spec.Selector, d.Namespace, d.Spec.Template.Labels)
	}
	k := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
	if k < 0 {
		in.t.Fatalf("Service %s has no port %d", service, port)
	}
	in.listens(d, s.Spec.Ports[k].TargetPort.String(), address)
}

// listens that the container's port of that name is the one of the address.
func (in installation) listens(d *appsv1.Deployment, name, address string) {
	in.t.Helper()
	ports := d.Spec.Template.Spec.Containers[0].Ports
	k := slices.IndexFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	_, want, err := net.SplitHostPort(address)
	if k < 0 || err != nil || strconv.Itoa(int(ports[k].ContainerPort)) != want {
		in.t.Errorf("port %s: got %+v, want the process's, %s", name, ports, address)
	}
}

// installations are what people apply of the guard.
var installations = []string{"base", "examples/configuration", "examples/install", "examples/scheduler"}

// An API server that calls a webhook reaches the process, and believes it.
func TestWebhooksReachTheProcess(t *testing.T) {
	for _, folder := range installations {
		t.Run(folder, func(t *testing.T) {
			in := installationOf(t, folder)
			d, c := in.guard()
			var clients []admissionv1.WebhookClientConfig
			var validating admissionv1.ValidatingWebhookConfiguration
			in.read("ValidatingWebhookConfiguration", c.Webhook.ConfigurationName, &validating)
			for _, w := range validating.Webhooks {
				clients = append(clients, w.ClientConfig)
			}
			var mutating admissionv1.MutatingWebhookConfiguration
			in.read("MutatingWebhookConfiguration", c.Webhook.ConfigurationName, &mutating)
			for _, w := range mutating.Webhooks {
				clients = append(clients, w.ClientConfig)
			}
			names := in.names(d, c)
			for _, to := range clients {
				in.reaches(to.Service.Name, to.Service.Namespace, *to.Service.Port, d, c.Webhook.BindAddress)
				if name := to.Service.Name + "." + to.Service.Namespace + ".svc"; !slices.Contains(names, name) {
					t.Errorf("names of the certificate: got %v, want %s among them", names, name)
				}
			}
		})
	}
}

// names that the webhook's certificate is for.
func (in installation) names(d *appsv1.Deployment, c *config.QuorateConfiguration) []string {
	in.t.Helper()
	if c.Webhook.Certificates.Source == config.SelfManaged {
		var secret corev1.Secret
		in.read("Secret", c.Webhook.Certificates.SecretName, &secret)
		return webhookNames(&c.Webhook.Certificates, d.Namespace)
	}
	pod := d.Spec.Template.Spec
	for _, m := range pod.Containers[0].VolumeMounts {
		for _, v := range pod.Volumes {
			if m.MountPath == c.Webhook.Certificates.Directory && v.Name == m.Name && v.Secret != nil {
				return in.certificate(v.Secret.SecretName)
			}
		}
	}
	in.t.Fatalf("no Secret is mounted at %s", c.Webhook.Certificates.Directory)
	return nil
}

// certificate that cert-manager keeps in that Secret, by its names.
func (in installation) certificate(secret string) []string {
	in.t.Helper()
	for _, o := range in.objects {
		if name, _, _ := unstructured.NestedString(o.Object, "spec", "secretName"); o.GetKind() == "Certificate" && name == secret {
			names, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "dnsNames")
			return names
		}
	}
	in.t.Fatalf("no Certificate makes Secret %s", secret)
	return nil
}

// Kubelets, Prometheus and whoever drains reach the process, too.
func TestPodIsProbedScrapedAndBudgeted(t *testing.T) {
	in := installationOf(t, "examples/install")
	d, c := in.guard()
	container := &d.Spec.Template.Spec.Containers[0]
	for _, p := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		in.listens(d, p.HTTPGet.Port.String(), c.Health.BindAddress)
	}
	var budget policyv1.PodDisruptionBudget
	in.read("PodDisruptionBudget", "quorate", &budget)
	if selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector); err != nil || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("the budget selects %v (%v), and the pods are labelled %v", budget.Spec.Selector, err, d.Spec.Template.Labels)
	}
	var monitor struct {
		Spec struct {
			Selector  metav1.LabelSelector `json:"selector"`
			Endpoints []struct {
				Port string `json:"port"`
			} `json:"endpoints"`
		} `json:"spec"`
	}
	in.read("ServiceMonitor", "quorate", &monitor)
	var s corev1.Service
	in.read("Service", "quorate-metrics", &s)
	if !labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) || len(monitor.Spec.Endpoints) != 1 || monitor.Spec.Endpoints[0].Port != s.Spec.Ports[0].Name {
		t.Errorf("the ServiceMonitor says %+v, and the Service is %v with %v", monitor.Spec, s.Labels, s.Spec.Ports)
	}
	in.reaches(s.Name, d.Namespace, s.Spec.Ports[0].Port, d, c.Metrics.BindAddress)
	in.misses(s.Name)
}

// misses that an alert tells when nothing of that Service is scraped: Prometheus' job is
// named for it.
func (in installation) misses(service string) {
	in.t.Helper()
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Expr string `json:"expr"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	in.read("PrometheusRule", "quorate", &rule)
	for _, g := range rule.Spec.Groups {
		for _, r := range g.Rules {
			if strings.Contains(r.Expr, `absent(up{job="`+service+`"}`) {
				return
			}
		}
	}
	in.t.Errorf("no alert tells that Service %s is not scraped", service)
}

// probed that kubelets ask the container's health where the process serves it.
func probed(t *testing.T, c *corev1.Container, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for path, p := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Host != host {
			t.Errorf("%s of %s at %s: the probe is %v", path, c.Name, address, p)
			continue
		}
		named := slices.ContainsFunc(c.Ports, func(n corev1.ContainerPort) bool {
			return n.Name == p.HTTPGet.Port.StrVal && strconv.Itoa(int(n.ContainerPort)) == port
		})
		if p.HTTPGet.Port.String() != port && !named {
			t.Errorf("%s of %s at %s: port %v is another one", path, c.Name, address, p.HTTPGet.Port)
		}
	}
}

// An extender finds its configuration, and its scheduler asks it where it listens.
func TestExtenderIsAskedWhereItListens(t *testing.T) {
	in := installationOf(t, "examples/scheduler")
	var second appsv1.Deployment
	in.read("Deployment", "quorate-scheduler", &second)
	pod := &second.Spec.Template.Spec
	c := in.configuration(pod, &pod.Containers[1])
	var from corev1.ConfigMap
	in.read("ConfigMap", "quorate-scheduler", &from)
	probed(t, &pod.Containers[1], c.Health.BindAddress)
	asked(t, c, "/etc/quorate/scheduler.yaml", []byte(from.Data["scheduler.yaml"]))
	if !slices.Contains(pod.Containers[0].Command, "--config="+c.Extender.SchedulerConfiguration) {
		t.Errorf("the scheduler runs by %v, and the extender audits %s", pod.Containers[0].Command, c.Extender.SchedulerConfiguration)
	}

	in = installationOf(t, "examples/scheduler-control-plane")
	var beside appsv1.DaemonSet
	in.read("DaemonSet", "quorate-extender", &beside)
	pod = &beside.Spec.Template.Spec
	text, err := shipped.Files.ReadFile("components/scheduler-control-plane/scheduler.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c = in.configuration(pod, &pod.Containers[0])
	probed(t, &pod.Containers[0], c.Health.BindAddress)
	asked(t, c, "/etc/kubernetes/quorate/scheduler.yaml", text)
}

func asked(t *testing.T, c *config.QuorateConfiguration, file string, text []byte) {
	t.Helper()
	if !c.Extender.Enabled || c.Webhook.Enabled || c.StatusController.Enabled || !c.SelfAudit.Enabled || c.Extender.SchedulerConfiguration != file {
		t.Errorf("configuration: got %+v, want an extender alone that audits %s", c.Extender, file)
	}
	if host, _, err := net.SplitHostPort(c.Extender.BindAddress); err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("the extender listens on %s, want loopback", c.Extender.BindAddress)
	}
	for _, p := range audit.Scheduler(file, text, c.Extender.BindAddress) {
		t.Error(p)
	}
}

// A pod that shuts down is not killed before it is done.
func TestPodOutlivesItsShutdown(t *testing.T) {
	for _, folder := range installations {
		d, c := installationOf(t, folder).guard()
		grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if needed := c.Shutdown.Delay.Duration + c.Shutdown.Timeout.Duration; grace <= needed {
			t.Errorf("%s: the pod is killed after %v, and takes %v to shut down", folder, grace, needed)
		}
	}
}
