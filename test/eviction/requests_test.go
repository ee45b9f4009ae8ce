package eviction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

// requests are all that can take a member away, tried by the tools that people use.
func requests(t *testing.T, r *rig, s *sampler) {
	s.restart()
	whileAllAreWell(t, r)
	r.behave(memberConfig{late: untilHealed})
	for _, name := range []string{"zk-0", "zk-1"} {
		r.allowed(t, "delete", "pod", name, "-n", namespace, "--wait=false")
	}
	whileTwoAreGone(t, r)
	r.behave(memberConfig{})
	r.calm(t, s, nil)
	r.verdict(t, s, "requests")
}

func whileAllAreWell(t *testing.T, r *rig) {
	before := r.grants(t)
	r.allowed(t, "drain", r.pod(t, 0).Spec.NodeName, "--dry-run=server")
	r.allowed(t, "delete", "pod", "zk-0", "-n", namespace, "--dry-run=server")
	r.allowed(t, "delete", "statefulset", "zk", "-n", namespace, "--dry-run=server", "--cascade=orphan")
	r.allowed(t, "scale", "statefulset", "zk", "-n", namespace, "--replicas=7", "--dry-run=server")
	r.await(t, "an eviction as policy/v1beta1, without namespace, to be allowed", func(ctx context.Context) error {
		return r.evictRaw(ctx, "policy/v1beta1", "zk-0")
	})
	if after := r.grants(t); after != before {
		t.Errorf("got the grants %s after dry runs, want %s", after, before)
	}
	r.refusedAll(t,
		refusal{"quorum 3", []string{"scale", "statefulset", "zk", "-n", namespace, "--replicas=1"}},
		refusal{"would take all its members", []string{"delete", "statefulset", "zk", "-n", namespace}},
		refusal{"quorum 3", []string{"patch", "statefulset", "zk", "-n", namespace, "--type=merge", "-p", `{"spec":{"replicas":2}}`}},
	)
}

// evictRaw posts an eviction as older clients do, as a dry run.
func (r *rig) evictRaw(ctx context.Context, version, name string) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": version, "kind": "Eviction", "metadata": map[string]any{"name": name},
		"deleteOptions": map[string]any{"dryRun": []string{"All"}},
	})
	if err != nil {
		return err
	}
	return r.plane.Client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(name).SubResource("eviction").
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}

func whileTwoAreGone(t *testing.T, r *rig) {
	arithmetic := "would leave 2 of 5 voters synced (quorum 3): "
	r.refusedAll(t,
		refusal{"deleting zk-2 " + arithmetic, []string{"delete", "pod", "zk-2", "-n", namespace}},
		refusal{arithmetic, []string{"delete", "pod", "zk-3", "-n", namespace, "--force", "--grace-period=0"}},
		refusal{arithmetic, []string{"drain", r.pod(t, 4).Spec.NodeName, "--disable-eviction", "--timeout=20s"}},
		refusal{"evicting zk-3 " + arithmetic, []string{"drain", r.pod(t, 3).Spec.NodeName, "--timeout=8s"}},
		refusal{"would leave 2 of 5", []string{"scale", "statefulset", "zk", "-n", namespace, "--replicas=4"}},
	)
	r.kubectl(t, "uncordon", r.pod(t, 3).Spec.NodeName, r.pod(t, 4).Spec.NodeName)
	pods := r.plane.Client.CoreV1().Pods(namespace)
	r.tooMany(t, "a collection", func(ctx context.Context) error {
		return pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=zk"})
	})
	breakGlass(t, r)
}

// breakGlass is for whom RBAC lets impersonate the group, and told to people.
func breakGlass(t *testing.T, r *rig) {
	r.kubectl(t, "create", "clusterrole", "drainer", "--verb=get,list,delete", "--resource=pods")
	r.kubectl(t, "create", "clusterrolebinding", "drainer", "--clusterrole=drainer", "--group="+admission.BreakGlassGroup)
	out := r.allowed(t, "delete", "pod", "zk-2", "-n", namespace, "--dry-run=server", "--as=ada", "--as-group="+admission.BreakGlassGroup)
	if !strings.Contains(out, "the glass is broken") {
		t.Errorf("got %q of kubectl, want it to warn", out)
	}
	admin := r.as(t, "ada", "system:masters")
	r.tooMany(t, "a deletion by an administrator", func(ctx context.Context) error {
		return admin.CoreV1().Pods(namespace).Delete(ctx, "zk-2", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	})
}

// tooMany asks for what must be answered with 429.
func (r *rig) tooMany(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	r.await(t, what+" to be refused", func(ctx context.Context) error {
		switch err := ask(ctx); {
		case apierrors.IsTooManyRequests(err):
			return nil
		case err == nil:
			return lab.Stop(errors.New("it was allowed"))
		default:
			return err
		}
	})
}

// allowed runs kubectl, which must succeed. In contention, or where a member answers
// late, nobody can tell: then it is asked again.
func (r *rig) allowed(t *testing.T, args ...string) (out string) {
	t.Helper()
	r.await(t, fmt.Sprintf("kubectl %s to be allowed", strings.Join(args, " ")), func(ctx context.Context) (err error) {
		out, err = r.plane.Kubectl(ctx, args...)
		return err
	})
	return out
}

// tryRefused runs kubectl, which must fail and say why. In contention nobody can tell:
// then it is asked again.
func (r *rig) tryRefused(ctx context.Context, why string, args []string) error {
	command := "kubectl " + strings.Join(args, " ")
	return lab.Await(ctx, 4*time.Minute, command+" to be refused", func(ctx context.Context) error {
		switch out, err := r.plane.Kubectl(ctx, args...); {
		case err == nil:
			return lab.Stop(fmt.Errorf("got %q of %s, want it refused", out, command))
		case !strings.Contains(out, why):
			return fmt.Errorf("got %q, want it to say %q", out, why)
		default:
			return nil
		}
	})
}

// refusal is a run of kubectl, and what it must say when it fails.
type refusal struct {
	why  string
	args []string
}

// refusedAll tries them side by side: none of them changes anything.
func (r *rig) refusedAll(t *testing.T, all ...refusal) {
	t.Helper()
	var tries errgroup.Group
	for _, one := range all {
		tries.Go(func() error { return r.tryRefused(t.Context(), one.why, one.args) })
	}
	if err := tries.Wait(); err != nil {
		t.Fatal(err)
	}
}

// grants as they are stored, in words.
func (r *rig) grants(t *testing.T) string {
	t.Helper()
	var e v1alpha1.Ensemble
	if err := r.ensembles.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: "zk"}, &e); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(e.Status.Grants)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
