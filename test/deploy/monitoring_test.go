package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// monitor is what we set of a ServiceMonitor.
type monitor struct {
	Spec struct {
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port string `json:"port"`
		} `json:"endpoints"`
	} `json:"spec"`
}

var jobsUp = regexp.MustCompile(`up\{job=~?"([^"]+)"\}`)

// Every process of ours is scraped, whichever component brings it, and an alert fires
// when it does not answer.
func TestEveryProcessIsScraped(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "components/monitoring/servicemonitor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var m monitor
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	var watched []*regexp.Regexp
	for _, a := range alerts(t) {
		for _, job := range jobsUp.FindAllStringSubmatch(a.Expr, -1) {
			watched = append(watched, regexp.MustCompile("^(?:"+job[1]+")$"))
		}
	}
	for folder, service := range map[string]string{
		"base": "quorate-metrics", "examples/scheduler": "quorate-scheduler-metrics", "examples/scheduler-control-plane": "quorate-extender-metrics",
	} {
		t.Run(folder, func(t *testing.T) {
			objects, err := Render(root, folder)
			if err != nil {
				t.Fatal(err)
			}
			var s corev1.Service
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(t, objects, "Service", service).Object, &s); err != nil {
				t.Fatal(err)
			}
			m.selects(t, &s)
			ends(t, &s, objects)
			if !slices.ContainsFunc(watched, func(job *regexp.Regexp) bool { return job.MatchString(service) }) {
				t.Errorf("no alert fires when job %s does not answer", service)
			}
		})
	}
}

func (m *monitor) selects(t *testing.T, s *corev1.Service) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.Spec.NamespaceSelector.MatchNames, s.Namespace) || !selector.Matches(labels.Set(s.Labels)) {
		t.Errorf("the ServiceMonitor does not select Service %s/%s", s.Namespace, s.Name)
	}
	if len(s.Spec.Ports) != 1 || len(m.Spec.Endpoints) != 1 || s.Spec.Ports[0].Name != m.Spec.Endpoints[0].Port {
		t.Errorf("ports: the ServiceMonitor scrapes %v, Service %s has %v", m.Spec.Endpoints, s.Name, s.Spec.Ports)
	}
}

// ends: the Service leads to the port that the configuration of its pods has metrics on.
func ends(t *testing.T, s *corev1.Service, objects []*unstructured.Unstructured) {
	t.Helper()
	name := s.Labels["app.kubernetes.io/name"]
	kind := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool {
		return (o.GetKind() == "Deployment" || o.GetKind() == "DaemonSet") && o.GetNamespace() == s.Namespace && o.GetName() == name
	})
	if kind < 0 {
		t.Fatalf("nobody is behind Service %s", s.Name)
	}
	var workload struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[kind].Object, &workload); err != nil {
		t.Fatal(err)
	}
	if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(workload.Spec.Template.Labels)) {
		t.Errorf("Service %s selects %v, and its pods bear %v", s.Name, s.Spec.Selector, workload.Spec.Template.Labels)
	}
	config := struct {
		Metrics struct {
			BindAddress string `json:"bindAddress"`
		} `json:"metrics"`
	}{}
	config.Metrics.BindAddress = ":8443" // the default
	if err := yaml.Unmarshal([]byte(field(t, find(t, objects, "ConfigMap", name), "data", "quorate.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	var listens []string
	for _, container := range workload.Spec.Template.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == s.Spec.Ports[0].TargetPort.String() {
				listens = append(listens, fmt.Sprintf(":%d", port.ContainerPort))
			}
		}
	}
	if want := []string{config.Metrics.BindAddress}; !slices.Equal(listens, want) {
		t.Errorf("Service %s leads to %v of a pod, which has metrics on %v", s.Name, listens, want)
	}
}
