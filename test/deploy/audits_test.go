package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// audits: whoever weakens the guard is told, on the Ensemble too.
func (c *cluster) audits(t *testing.T) {
	t.Helper()
	weaken := func(patch string) {
		t.Helper()
		_, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(t.Context(), "quorate-guard", types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	weaken(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)
	c.guarded(t, "False", "failurePolicy is Ignore")
	await(t, "an Event on the webhook configuration", func(ctx context.Context) error {
		events, err := c.Client.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "SelfAudit" && strings.Contains(e.Note, "failurePolicy is Ignore") {
				return nil
			}
		}
		return errors.New("none yet")
	})
	weaken(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Fail"}]`)
	c.guarded(t, "True", "")
}

// auditsScheduler: whoever configures the scheduler so that members may be placed
// unjudged is told by the extender beside it.
func (c *cluster) auditsScheduler(t *testing.T) {
	t.Helper()
	pods, err := c.Client.CoreV1().Pods("quorate-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=quorate-scheduler"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("second schedulers: got %v (%v)", pods, err)
	}
	configs := c.Client.CoreV1().ConfigMaps("quorate-system")
	shipped, err := configs.Get(t.Context(), "quorate-scheduler", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	configure := func(ignorable string) {
		t.Helper()
		text := strings.Replace(shipped.Data["scheduler.yaml"], "ignorable: false", "ignorable: "+ignorable, 1)
		patch, _ := json.Marshal(map[string]any{"data": map[string]string{"scheduler.yaml": text}})
		if _, err := configs.Patch(t.Context(), "quorate-scheduler", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wired := func(problems int) {
		t.Helper()
		for i := range pods.Items {
			c.wired(t, pods.Items[i].Name, problems)
		}
	}
	configure("true")
	wired(1)
	configure("false")
	wired(0)
	named := c.metricsNamed(t)
	maps.DeleteFunc(named, func(name string, _ []string) bool { return !ofExtender(name) })
	await(t, "the extender's metrics that are named", func(ctx context.Context) error {
		var urls []string
		for i := range pods.Items {
			urls = append(urls, "https://"+c.at(pods.Items[i].Name+metricsPort))
		}
		return c.served(ctx, named, nil, urls...)
	})
}

// wired awaits that the extender finds so many problems with its scheduler's
// configuration.
func (c *cluster) wired(t *testing.T, pod string, problems int) {
	t.Helper()
	want := fmt.Sprintf("quorate_self_audit_problem{check=\"scheduler-configuration\"} %d\n", problems)
	await(t, "the self-audit beside the scheduler", func(ctx context.Context) error {
		body, err := scrape(ctx, "https://"+c.at(pod+metricsPort), c.RESTConfig().BearerToken)
		if err == nil && !strings.Contains(body, want) {
			err = fmt.Errorf("%s does not say %s in %s", pod, want, regexp.MustCompile("quorate_self_audit.*").FindAllString(body, -1))
		}
		return err
	})
}
