package deploy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/test/lab"
)

func gvr(groupVersion, resource string) schema.GroupVersionResource {
	gv, _ := schema.ParseGroupVersion(groupVersion)
	return gv.WithResource(resource)
}

// One cluster from the first command of docs/install.md to the last of
// docs/uninstall.md: nobody is ever blocked, nothing is refused to the process,
// nothing that it is given goes unused, nothing is lost while it is upgraded, and
// nothing is left behind.
func TestInstallUseUpgradeUninstall(t *testing.T) {
	c := start(t)
	c.run(t, "kubectl create namespace monitoring") // of somebody who scrapes
	before := c.everything(t)
	c.policyAlone(t)
	page := func(name string) []string {
		t.Helper()
		commands, err := Commands(filepath.Join(c.repo, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if len(commands) == 0 || !slices.Contains(tried, name) {
			t.Fatalf("docs/%s has %d commands; tried are %v", name, len(commands), tried)
		}
		return commands
	}
	install := page("install.md")
	upgrade := slices.IndexFunc(install, func(s string) bool { return strings.Contains(s, "rollout restart") })
	for i, command := range install[:upgrade-1] {
		c.run(t, command)
		if i == 0 {
			c.neverBlocked(t, "default", "before a replica is up")
		}
	}
	c.neverBlocked(t, "default", "in a namespace that is not guarded")
	c.guards(t)
	c.scraped(t)
	t.Run("used", func(t *testing.T) { // side by side: most of it is waiting
		for name, use := range map[string]func(*testing.T){
			"validated": c.validates, "documented": c.documents, "audited": c.audits, "moved": c.moves, "placed": c.places, "backed": c.backs,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				use(t)
			})
		}
	})
	c.underLoad(t, func() {
		c.rotates(t)
		for _, command := range install[upgrade-1:] {
			c.run(t, command)
		}
	})
	c.leaks(t, page("security.md"))
	for _, command := range page("eviction.md") {
		c.run(t, command)
	}
	c.leastPrivilege(t, "system:serviceaccount:quorate-system:quorate", "base", unused, "ClusterRole/quorate", "ClusterRole/quorate-process", "Role/quorate")
	// With the scheduler's side, as by a kustomization of one's own.
	c.overlay = c.component(t, "scheduler", c.overlay)
	c.run(t, "kubectl apply -k deploy/base")
	c.run(t, "kubectl -n quorate-system rollout status deployment/quorate-scheduler --timeout=120s")
	for i, command := range page("uninstall.md") {
		c.run(t, command)
		if i == 3 {
			c.neverBlocked(t, "data", "once the webhooks are deleted")
		}
	}
	// A namespace waits half the grace of pods that it ends itself.
	c.run(t, "kubectl -n data delete statefulset,pod --all")
	c.run(t, "kubectl delete namespace data")
	await(t, "nothing to be left", func(context.Context) error {
		var left []string
		for name := range c.everything(t) {
			if !before[name] && !strings.Contains(name, " pods default ") {
				left = append(left, name)
			}
		}
		if left != nil {
			return fmt.Errorf("left behind: %s", strings.Join(left, "; "))
		}
		return nil
	})
}

func await(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := lab.Await(t.Context(), 2*time.Minute, what, condition); err != nil {
		t.Fatal(err)
	}
}

// neverBlocked makes, evicts and deletes pods of that namespace.
func (c *cluster) neverBlocked(t *testing.T, namespace, when string) {
	t.Helper()
	for _, name := range []string{"evicted", "deleted"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}, SchedulerName: "nobody"},
		}
		if _, err := c.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatalf("create a pod %s: %v", when, err)
		}
	}
	if err := c.evict(t.Context(), namespace, "evicted", false); err != nil {
		t.Errorf("evict a pod %s: %v", when, err)
	}
	if err := c.Client.CoreV1().Pods(namespace).Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete a pod %s: %v", when, err)
	}
}

// policyAlone: who is a member is not known before the API server knows the CRD. Pods
// of labelled namespaces are refused meanwhile, and no others.
func (c *cluster) policyAlone(t *testing.T) {
	t.Helper()
	const labelled = "kube-public" // one that is there and has nothing of its own
	policy := c.component(t, "voter-policy")
	c.run(t, "kubectl create namespace quorate-system")
	c.run(t, "kubectl label namespace kube-system quorate-system "+labelled+" quorate.io/guard=enabled")
	c.run(t, "kubectl apply -k "+policy)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "probe"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	creating := func(ctx context.Context) error {
		_, err := c.Client.CoreV1().Pods(labelled).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	await(t, "the policy to be in force without its CRD", func(ctx context.Context) error {
		err := creating(ctx)
		if err != nil && strings.Contains(err.Error(), "failed to find resource referenced by paramKind") {
			return nil
		}
		return fmt.Errorf("create a pod: got %w, want a refusal for want of the CRD", err)
	})
	for _, namespace := range []string{"default", "kube-system", "quorate-system"} {
		c.neverBlocked(t, namespace, "while the API server does not know the CRD")
	}
	c.run(t, "kubectl delete -k "+policy)
	await(t, "the policy to be gone", creating)
	c.run(t, "kubectl label namespace kube-system quorate-system "+labelled+" quorate.io/guard-")
}

func (c *cluster) evict(ctx context.Context, namespace, name string, dry bool) error {
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, DeleteOptions: &metav1.DeleteOptions{}}
	if dry {
		e.DeleteOptions.DryRun = []string{metav1.DryRunAll}
	}
	return c.Client.CoreV1().Pods(namespace).EvictV1(ctx, e)
}

// guards: an eviction of a member is judged by a replica, and refused as kubectl
// drain needs it: nobody answers as ZooKeeper here.
func (c *cluster) guards(t *testing.T) {
	t.Helper()
	await(t, "the guard to judge", func(ctx context.Context) error {
		if err := c.evict(ctx, "data", "zk-0", false); !judgedNo(err) {
			return fmt.Errorf("evict zk-0: got %w, want a 429 with the cause DisruptionBudget", err)
		}
		return nil
	})
	c.shrinks(t)
	err := c.Client.AppsV1().StatefulSets("data").Delete(t.Context(), "zk", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("delete the StatefulSet of a live ensemble: got %v, want a 403", err)
	}
	c.guarded(t, "True", "")
}

// shrinks: a scale-down that would take a member away is refused, too.
func (c *cluster) shrinks(t *testing.T) {
	t.Helper()
	sets := c.Client.AppsV1().StatefulSets("data")
	scale, err := sets.GetScale(t.Context(), "zk", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas--
	if _, err := sets.UpdateScale(t.Context(), "zk", scale, metav1.UpdateOptions{}); !judgedNo(err) {
		t.Errorf("scale the StatefulSet down: got %v, want a 429 with the cause DisruptionBudget", err)
	}
}

// judgedNo reports whether a replica refused: an API server that is asked too much says
// 429, too, and gives no cause.
func judgedNo(err error) bool {
	return apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause)
}

// guarded awaits the condition Guarded of the Ensemble.
func (c *cluster) guarded(t *testing.T, status, says string) {
	t.Helper()
	await(t, "condition Guarded="+status, func(context.Context) error {
		conditions, _, _ := unstructured.NestedSlice(ensemble(t, c).Object, "status", "conditions")
		for _, o := range conditions {
			m := o.(map[string]any)
			if m["type"] == "Guarded" && m["status"] == status && strings.Contains(fmt.Sprint(m["message"]), says) {
				return nil
			}
		}
		return fmt.Errorf("conditions are %v", conditions)
	})
}

// validates lets the API server judge everything under deploy/, strictly: an unknown
// field is an error. What others' operators act upon is applied as well.
func (c *cluster) validates(t *testing.T) {
	mapper := c.mapper(t)
	for _, folder := range folders(t) {
		objects, err := Render(root, folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			gvk := o.GroupVersionKind()
			if strings.HasSuffix(gvk.Kind, "WebhookConfiguration") {
				o.SetName("as-shipped") // the one that is there has another address
			}
			if err := c.try(t, mapper, o); err != nil {
				t.Errorf("%s: %s %s: %v", folder, gvk.Kind, o.GetName(), err)
			}
		}
	}
	pod := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(wrapped(t), &pod.Object); err != nil {
		t.Fatal(err)
	}
	if err := c.try(t, mapper, pod); err != nil {
		t.Errorf("examples/elect: %v", err)
	}
	for _, verb := range []string{"apply", "delete"} {
		c.run(t, "kubectl "+verb+" -f deploy/components/cert-manager/certificate.yaml")
	}
}

// mapper knows where each kind is served.
func (c *cluster) mapper(t *testing.T) meta.RESTMapper {
	t.Helper()
	groups, err := restmapper.GetAPIGroupResources(c.Client.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	return restmapper.NewDiscoveryRESTMapper(groups)
}

// try applies the object strictly, and dry.
func (c *cluster) try(t *testing.T, mapper meta.RESTMapper, o *unstructured.Unstructured) error {
	t.Helper()
	gvk := o.GroupVersionKind()
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := o.GetNamespace()
		if namespace == "" {
			namespace = "default"
		}
		to = c.dynamic.Resource(mapping.Resource).Namespace(namespace)
	}
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	_, err = to.Patch(t.Context(), o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
		FieldManager: "test", Force: &force, DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// rotates makes the process replace its certificate, and then its CA.
func (c *cluster) rotates(t *testing.T) {
	t.Helper()
	secret := func(ctx context.Context) *corev1.Secret {
		s, err := c.Client.CoreV1().Secrets("quorate-system").Get(ctx, "quorate-webhook-tls", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, lost := range []string{"tls.crt", "ca.key"} {
		old := string(secret(t.Context()).Data["tls.crt"])
		patch := fmt.Sprintf(`[{"op":"remove","path":"/data/%s"}]`, lost)
		if _, err := c.Client.CoreV1().Secrets("quorate-system").Patch(t.Context(), "quorate-webhook-tls", types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		await(t, "a new certificate for want of "+lost, func(ctx context.Context) error {
			if now := string(secret(ctx).Data["tls.crt"]); now == "" || now == old {
				return errors.New("still the old one")
			}
			return nil
		})
	}
}

// leaks: a CA that was taken away is believed by nobody any more, and the guard is by
// another one.
func (c *cluster) leaks(t *testing.T, commands []string) {
	t.Helper()
	authority := func() string {
		hooks, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "quorate-guard", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(hooks.Webhooks[0].ClientConfig.CABundle)
	}
	leaked := strings.SplitAfter(authority(), "-----END CERTIFICATE-----\n")
	for _, command := range commands {
		c.run(t, command)
	}
	await(t, "the CA that leaked to be distrusted", func(context.Context) error {
		for _, ca := range leaked {
			if ca != "" && strings.Contains(authority(), ca) {
				return errors.New("it is still believed")
			}
		}
		return nil
	})
	c.guards(t)
}

// underLoad evicts dry all the time: each must be judged, none may end otherwise.
func (c *cluster) underLoad(t *testing.T, do func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var judged atomic.Int64
	var failures sync.Map
	var load sync.WaitGroup
	for n := range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				err := c.evict(ctx, "data", fmt.Sprintf("zk-%d", n), true)
				if ctx.Err() == nil && !judgedNo(err) {
					failures.Store(fmt.Sprint(err), true)
				}
				judged.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	do()
	stop()
	load.Wait()
	t.Logf("judged %d evictions meanwhile", judged.Load())
	if judged.Load() < 10 {
		t.Errorf("evictions judged: got %d, want 10 at least", judged.Load())
	}
	failures.Range(func(key, _ any) bool {
		t.Errorf("an eviction was not judged: %v", key)
		return true
	})
}
