package deploy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	componentconfig "k8s.io/component-base/config"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/leaderelection"
)

// pages are all that people read.
func (c *cluster) pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.repo, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, file := range append(files, filepath.Join(c.repo, "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(file)] = string(text)
	}
	return pages
}

var (
	snippet    = regexp.MustCompile("(?ms)^ *```yaml\n(.*?)^ *```")
	metricName = regexp.MustCompile(`\bquorate_[a-z_]+`)
)

// documents: every YAML block of a page is taken by whom it is for.
func (c *cluster) documents(t *testing.T) {
	tried, mapper := 0, c.mapper(t)
	for page, text := range c.pages(t) {
		for _, block := range snippet.FindAllStringSubmatch(text, -1) {
			tried++
			if err := c.take(t, mapper, block[1]); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block[1])
			}
		}
	}
	if tried < 4 {
		t.Errorf("blocks tried: got %d, want all", tried)
	}
}

func (c *cluster) take(t *testing.T, mapper meta.RESTMapper, block string) error {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.UnmarshalStrict([]byte(block), &o.Object); err != nil {
		return err
	}
	args, found, err := unstructured.NestedStringSlice(o.Object, "args")
	switch {
	case err != nil:
		return err
	case found:
		flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
		lock := &componentconfig.LeaderElectionConfiguration{ResourceLock: resourcelock.LeasesResourceLock}
		leaderelection.NewOptions().AddFlags(flags, lock)
		return flags.Parse(args)
	case o.GroupVersionKind().Group == "kubeadm.k8s.io":
		return yaml.UnmarshalStrict([]byte(block), &kubeadm{})
	case o.GetKind() == "Kustomization":
		return yaml.UnmarshalStrict([]byte(block), &types.Kustomization{})
	case o.GetKind() == "KubeSchedulerConfiguration":
		return yaml.UnmarshalStrict([]byte(block), &schedulerv1.KubeSchedulerConfiguration{})
	case o.GetKind() == "QuorateConfiguration":
		file := filepath.Join(t.TempDir(), "quorate.yaml")
		if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
			return err
		}
		if out, err := exec.CommandContext(t.Context(), c.binary, "serve", "--config="+file, "--write-config").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	default:
		return c.try(t, mapper, &o)
	}
}

// scraped: every metric of the guard and the status controller that an alert or a page
// names is served, to those alone who may read it.
func (c *cluster) scraped(t *testing.T) {
	t.Helper()
	asked := labelsAsked(t)
	named := c.metricsNamed(t)
	for metric := range asked {
		named[metric] = append(named[metric], "the alerts' expressions")
	}
	maps.DeleteFunc(named, func(name string, _ []string) bool { return ofExtender(name) || ofOthers[name] != "" })
	if len(named) < 7 {
		t.Errorf("metrics named: got %v, want those of all alerts", named)
	}
	await(t, "the metrics that are named", func(ctx context.Context) error {
		urls := []string{c.RESTConfig().Host}
		for _, pod := range c.replicas(t) {
			urls = append(urls, "https://"+c.at(pod))
		}
		return c.served(ctx, named, asked, urls...)
	})
	c.scrapers(t)
}

func ofExtender(metric string) bool { return strings.HasPrefix(metric, "quorate_extender_") }

// metricsNamed by the alerts and the pages, and where.
func (c *cluster) metricsNamed(t *testing.T) map[string][]string {
	t.Helper()
	named := map[string][]string{}
	for _, a := range alerts(t) {
		for _, name := range metricName.FindAllString(a.Annotations["summary"]+" "+a.Annotations["description"], -1) {
			named[name] = append(named[name], "alert "+a.Alert)
		}
	}
	for page, text := range c.pages(t) {
		for _, name := range metricName.FindAllString(text, -1) {
			named[name] = append(named[name], page)
		}
	}
	return named
}

// served fails for a metric that none of them serves, or none with a label that is
// asked of it.
func (c *cluster) served(ctx context.Context, named, asked map[string][]string, urls ...string) error {
	var exported strings.Builder
	for _, url := range urls {
		body, err := scrape(ctx, url, c.RESTConfig().BearerToken)
		if err != nil {
			return err
		}
		exported.WriteString(body)
	}
	served := series(exported.String())
	for name, by := range named {
		labels, ok := served[name]
		if !ok {
			return fmt.Errorf("nobody serves %s, which is in %v", name, by)
		}
		for _, label := range asked[name] {
			if !slices.Contains(labels, label) && !slices.Contains(byPrometheus, label) {
				return fmt.Errorf("%s has labels %v, and is asked for %s", name, labels, label)
			}
		}
	}
	return nil
}

// scrapers: the metrics are for those alone whom the shipped ClusterRole is bound to, as
// docs/install.md does.
func (c *cluster) scrapers(t *testing.T) {
	t.Helper()
	monitoring := c.component(t, "monitoring")
	c.run(t, "kubectl -n monitoring create serviceaccount stranger")
	c.run(t, "kubectl -n monitoring create serviceaccount prometheus")
	c.run(t, "kubectl apply -k "+monitoring)
	refused := func(token, status string) {
		t.Helper()
		body, err := scrape(t.Context(), "https://"+c.at(c.replicas(t)[0]), token)
		if err == nil || !strings.Contains(err.Error(), status) {
			t.Errorf("metrics: got %v %.200s, want %s", err, body, status)
		}
	}
	refused("nobody's", "401 Unauthorized")
	refused(c.tokenOf(t, "stranger"), "403 Forbidden")
	token := c.tokenOf(t, "prometheus")
	await(t, "the metrics for whom the role is bound to", func(ctx context.Context) error {
		_, err := scrape(ctx, "https://"+c.at(c.replicas(t)[0]), token)
		return err
	})
	c.run(t, "kubectl delete -k "+monitoring)
	c.run(t, "kubectl -n monitoring delete serviceaccount stranger prometheus")
}

// tokenOf a service account of the namespace monitoring.
func (c *cluster) tokenOf(t *testing.T, name string) string {
	t.Helper()
	r, err := c.Client.CoreV1().ServiceAccounts("monitoring").CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

func scrape(ctx context.Context, server, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/metrics", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as the ServiceMonitor says
	}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("scrape %s: %s: %s", server, resp.Status, body)
	}
	return string(body), err
}
