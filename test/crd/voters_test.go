package crd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Who is a member gets the request, on one container and in one piece; everybody else is
// left alone. The policy says in CEL what spec.selector means: here it is held against
// each operator.
func TestVotersAreAsked(t *testing.T) {
	const policy = "../../deploy/components/voter-policy/policy.yaml"
	kubectl(t, "apply", "-f", policy)
	t.Cleanup(func() {
		if out, err := plane.Kubectl(context.WithoutCancel(t.Context()), "delete", "-f", policy); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	const zk = "{matchLabels: {app: zk}}"
	first := []bool{true}
	cases := map[string]struct {
		selector string
		labels   map[string]string
		shape    func(pod *corev1.Pod)
		want     []bool // which containers get the request; none: no container
	}{
		"labels":                    {selector: zk, labels: map[string]string{"app": "zk", "more": "of-them"}, want: first},
		"another value":             {selector: zk, labels: map[string]string{"app": "web"}},
		"no labels":                 {selector: zk},
		"one label of two":          {selector: "{matchLabels: {app: zk, tier: db}}", labels: map[string]string{"app": "zk"}},
		"in":                        {selector: "{matchExpressions: [{key: app, operator: In, values: [a, zk]}]}", labels: map[string]string{"app": "zk"}, want: first},
		"not one in":                {selector: "{matchExpressions: [{key: app, operator: In, values: [a, b]}]}", labels: map[string]string{"app": "zk"}},
		"in without the label":      {selector: "{matchExpressions: [{key: app, operator: In, values: [a, b]}]}"},
		"exists":                    {selector: "{matchExpressions: [{key: app, operator: Exists}]}", labels: map[string]string{"app": ""}, want: first},
		"does not exist":            {selector: "{matchExpressions: [{key: app, operator: DoesNotExist}]}", labels: map[string]string{"a": "b"}, want: first},
		"does exist":                {selector: "{matchExpressions: [{key: app, operator: DoesNotExist}]}", labels: map[string]string{"app": "zk"}},
		"not in":                    {selector: "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", labels: map[string]string{"app": "zk"}, want: first},
		"not in without the label":  {selector: "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", labels: map[string]string{"a": "b"}, want: first},
		"not in and is":             {selector: "{matchExpressions: [{key: app, operator: NotIn, values: [zk]}]}", labels: map[string]string{"app": "zk"}},
		"labels and expressions":    {selector: "{matchLabels: {app: zk}, matchExpressions: [{key: role, operator: NotIn, values: [backup]}]}", labels: map[string]string{"app": "zk", "role": "server"}, want: first},
		"labels and no expressions": {selector: "{matchLabels: {app: zk}, matchExpressions: [{key: role, operator: NotIn, values: [backup]}]}", labels: map[string]string{"app": "zk", "role": "backup"}},
		"bound already":             {selector: zk, labels: map[string]string{"app": "zk"}, shape: func(pod *corev1.Pod) { pod.Spec.NodeName = "n" }},
		"a mirror pod": {selector: zk, labels: map[string]string{"app": "zk"}, shape: func(pod *corev1.Pod) {
			pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "sum"}
			pod.Spec.NodeName, pod.Spec.ServiceAccountName = "n", ""
		}},
		"a scheduler that does not ask": {selector: zk, labels: map[string]string{"app": "zk"}, shape: func(pod *corev1.Pod) { pod.Spec.SchedulerName = "mine" }},
		"several containers": {selector: zk, labels: map[string]string{"app": "zk"}, want: []bool{true, false}, shape: func(pod *corev1.Pod) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "exporter", Image: "exporter"})
		}},
		"resources of its own": {selector: zk, labels: map[string]string{"app": "zk"}, want: first, shape: func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		}},
		"asks already": {selector: zk, labels: map[string]string{"app": "zk"}, want: first, shape: func(pod *corev1.Pod) {
			one := corev1.ResourceList{v1alpha1.VoterResource: resource.MustParse("1")}
			pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
		}},
	}
	var declared strings.Builder
	for name, c := range cases {
		ns := namespaceOf(name)
		fmt.Fprintf(&declared, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s: enabled}}\n", ns, deploy.GuardLabel)
		for _, e := range []struct{ name, selector string }{{"tried", c.selector}, {"witness", "{matchLabels: {quorate.test/witness: here}}"}} { // known in this order
			fmt.Fprintf(&declared, "---\napiVersion: quorate.io/v1alpha1\nkind: Ensemble\nmetadata: {name: %s, namespace: %s}\nspec: {voters: 3, selector: %s}\n", e.name, ns, e.selector)
		}
	}
	file := filepath.Join(t.TempDir(), "ensembles.yaml")
	if err := os.WriteFile(file, []byte(declared.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "apply", "-f", file)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ns := namespaceOf(name)
			await(t, "the policy to know the Ensembles", func() bool {
				pod, err := admitted(t, ns, map[string]string{"quorate.test/witness": "here", "app": "none-of-them"}, nil)
				return err == nil && !pod.Spec.Containers[0].Resources.Requests.Name(v1alpha1.VoterResource, resource.DecimalSI).IsZero()
			})
			pod, err := admitted(t, ns, c.labels, c.shape)
			if err != nil {
				t.Fatal(err)
			}
			var got []bool
			for i := range pod.Spec.Containers {
				r := pod.Spec.Containers[i].Resources
				requests, limits := r.Requests[v1alpha1.VoterResource], r.Limits[v1alpha1.VoterResource]
				if requests != limits {
					t.Errorf("container %d: requests %s, limits %s: want them equal", i, &requests, &limits)
				}
				if n := requests.Value(); n > 1 {
					t.Errorf("container %d: got %d of %s, want one", i, n, v1alpha1.VoterResource)
				}
				if cpu := r.Requests.Cpu(); name == "resources of its own" && cpu.Value() != 1 {
					t.Errorf("its own request for CPU: got %s, want 1", cpu)
				}
				got = append(got, !requests.IsZero())
			}
			want := append(c.want, make([]bool, len(got)-len(c.want))...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("containers with the request (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a namespace that is labelled no longer", func(t *testing.T) {
		ns := namespaceOf("labels")
		kubectl(t, "label", "namespace", ns, deploy.GuardLabel+"-")
		await(t, "its members to be left alone", func() bool {
			pod, err := admitted(t, ns, cases["labels"].labels, nil)
			return err == nil && pod.Spec.Containers[0].Resources.Requests.Name(v1alpha1.VoterResource, resource.DecimalSI).IsZero()
		})
	})
}

func namespaceOf(name string) string { return "voters-" + strings.ReplaceAll(name, " ", "-") }

// admitted is the pod as the API server would keep it.
func admitted(t *testing.T, namespace string, labels map[string]string, shape func(*corev1.Pod)) (*corev1.Pod, error) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "server"}}},
	}
	if shape != nil {
		shape(pod)
	}
	return plane.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
