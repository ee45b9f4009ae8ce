package admission

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// bind binds an eviction to the uid of the pod that bears the name now. Where it
// can't, the eviction goes on by name, which the judgement then reckons with.
func (g *Guard) bind(ctx context.Context, review admission.Request) admission.Response {
	ctx, cancel := context.WithTimeout(ctx, g.deadline/3)
	defer cancel()
	if review.Resource.Resource != "pods" || review.SubResource != "eviction" {
		return admission.Allowed("")
	}
	pod, err := g.cluster.Pod(ctx, types.NamespacedName{Namespace: review.Namespace, Name: review.Name})
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Could not bind an eviction to a uid", "namespace", review.Namespace, "name", review.Name, "err", err)
		return admission.Allowed("")
	}
	version := "" // a member that does not run is let go more easily: not once it runs again
	if !running(pod) && g.selected(ctx, pod) {
		version = pod.ResourceVersion
	}
	bound, err := bound(review.Object.Raw, string(pod.UID), version)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Could not read an eviction", "namespace", review.Namespace, "name", review.Name, "err", err)
		return admission.Allowed("")
	}
	return admission.PatchResponseFromRaw(review.Object.Raw, bound)
}

// selected reports whether an Ensemble has the pod for a member. Evictions of other
// pods are the API server's alone, which tries again where a version would stop it.
func (g *Guard) selected(ctx context.Context, pod *corev1.Pod) bool {
	ensembles, err := g.cluster.Ensembles(ctx, pod.Namespace)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Could not bind an eviction to a version", "namespace", pod.Namespace, "name", pod.Name, "err", err)
		return false
	}
	return slices.ContainsFunc(ensembles, func(e v1alpha1.Ensemble) bool {
		s, err := selectors(&e)
		return err == nil && s.member(pod)
	})
}

// bound is the eviction with the uid, and the version if there is one, as
// preconditions, unless it has such. Nothing else that the client sent is touched,
// known to us or not.
func bound(raw []byte, uid, version string) ([]byte, error) {
	var e map[string]json.RawMessage
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	options, err := within(e["deleteOptions"])
	if err != nil {
		return nil, err
	}
	preconditions, err := within(options["preconditions"])
	if err != nil {
		return nil, err
	}
	for key, value := range map[string]string{"uid": uid, "resourceVersion": version} {
		if has := preconditions[key]; value == "" || len(has) > 0 && string(has) != "null" {
			continue
		}
		if preconditions[key], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	if options["preconditions"], err = json.Marshal(preconditions); err != nil {
		return nil, err
	}
	if e["deleteOptions"], err = json.Marshal(options); err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// within is a JSON object that may be absent.
func within(raw json.RawMessage) (map[string]json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if len(raw) == 0 || string(raw) == "null" {
		return m, nil
	}
	return m, json.Unmarshal(raw, &m)
}
