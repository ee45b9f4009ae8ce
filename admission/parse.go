package admission

import (
	"encoding/json"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// exemptGroups and exemptUsers are never blocked. The API server does not even ask
// about them (matchConditions in deploy/base/webhook); this is for configurations
// that forgot.
var (
	exemptGroups = []string{"system:nodes"}
	exemptUsers  = []string{
		"system:kube-controller-manager",
		"system:serviceaccount:kube-system:namespace-controller",
		"system:serviceaccount:kube-system:generic-garbage-collector",
		"system:serviceaccount:kube-system:pod-garbage-collector",
		"system:serviceaccount:kube-system:node-controller",
	}
)

// settled answers what needs no look at any ensemble.
func settled(r *admissionv1.AdmissionRequest) (d Decision, done bool) {
	switch {
	case slices.Contains(r.UserInfo.Groups, BreakGlassGroup):
		return Decision{Outcome: AllowBreakGlass, Warning: "quorate: the glass is broken: nothing was checked"}, true
	case slices.Contains(exemptUsers, r.UserInfo.Username),
		slices.ContainsFunc(r.UserInfo.Groups, func(g string) bool { return slices.Contains(exemptGroups, g) }):
		return Decision{Outcome: AllowExempt}, true
	default:
		return Decision{}, false
	}
}

// parse reads a review's request. done is whether that settles it.
func parse(r *admissionv1.AdmissionRequest) (req Request, d Decision, done bool, err error) {
	if d, done := settled(r); done {
		return req, d, true, nil
	}
	req = Request{UID: string(r.UID), Namespace: r.Namespace, Name: r.Name, DryRun: ptr.Deref(r.DryRun, false), User: r.UserInfo.Username}
	resource := r.Resource.Resource
	if r.SubResource != "" {
		resource += "/" + r.SubResource
	}
	switch what := string(r.Operation) + " " + resource; what {
	case "CREATE pods/eviction":
		err = req.eviction(r)
	case "DELETE pods":
		d, done, err = req.deletion(r)
	case "UPDATE statefulsets":
		d, done, err = req.update(r)
	case "UPDATE statefulsets/scale":
		d, done, err = req.scale(r)
	case "DELETE statefulsets":
		d, done, err = req.statefulSet(r)
	default:
		err = fmt.Errorf("%s is not judged here", what)
	}
	return req, d, done, err
}

// dryRun is whether options of any kind ask for one.
func dryRun(options *metav1.DeleteOptions) bool {
	return options != nil && slices.Contains(options.DryRun, metav1.DryRunAll)
}

// eviction reads an Eviction of policy/v1 or v1beta1: both bodies are alike. Its
// name and namespace are the request's: the body may lack them.
func (r *Request) eviction(review *admissionv1.AdmissionRequest) error {
	var e policyv1.Eviction
	if err := json.Unmarshal(review.Object.Raw, &e); err != nil {
		return fmt.Errorf("read eviction: %w", err)
	}
	r.Verb = Evict
	if r.Name == "" {
		r.Name = e.Name
	}
	if o := e.DeleteOptions; o != nil {
		r.DryRun = r.DryRun || dryRun(o)
		if o.Preconditions != nil {
			r.PodUID = ptr.Deref(o.Preconditions.UID, "")
			r.PodVersion = ptr.Deref(o.Preconditions.ResourceVersion, "")
		}
	}
	return nil
}

// deletion reads what is deleted from the old object: a collection's requests bear
// no name. The API server deletes exactly the object that it showed us,
// in that version.
func (r *Request) deletion(review *admissionv1.AdmissionRequest) (d Decision, done bool, err error) {
	var p metav1.PartialObjectMetadata
	if err := json.Unmarshal(review.OldObject.Raw, &p); err != nil {
		return d, false, fmt.Errorf("read pod: %w", err)
	}
	r.Verb, r.Name, r.PodUID, r.PodVersion = DeletePod, p.Name, p.UID, p.ResourceVersion
	if p.DeletionTimestamp != nil {
		return Decision{Outcome: AllowGoing}, true, nil
	}
	o, err := deleteOptions(review)
	r.DryRun = r.DryRun || dryRun(&o)
	return d, false, err
}

func deleteOptions(r *admissionv1.AdmissionRequest) (o metav1.DeleteOptions, err error) {
	if len(r.Options.Raw) == 0 {
		return o, nil
	}
	if err := json.Unmarshal(r.Options.Raw, &o); err != nil {
		return o, fmt.Errorf("read options: %w", err)
	}
	return o, nil
}

// update judges a StatefulSet only if its range of ordinals loses some.
func (r *Request) update(review *admissionv1.AdmissionRequest) (d Decision, done bool, err error) {
	var now, old appsv1.StatefulSet
	if err := json.Unmarshal(review.Object.Raw, &now); err != nil {
		return d, false, fmt.Errorf("read statefulset: %w", err)
	}
	if err := json.Unmarshal(review.OldObject.Raw, &old); err != nil {
		return d, false, fmt.Errorf("read statefulset: %w", err)
	}
	r.Verb, r.Name, r.Range = Shrink, old.Name, rangeOf(&now)
	was := rangeOf(&old)
	r.Range.Owner = old.UID
	if r.Range.Start <= was.Start && r.Range.Start+r.Range.Replicas >= was.Start+was.Replicas {
		return Decision{Outcome: AllowSafe, Message: "no ordinal is lost"}, true, nil
	}
	return d, false, nil
}

func rangeOf(s *appsv1.StatefulSet) Range {
	r := Range{Replicas: int(ptr.Deref(s.Spec.Replicas, 1))}
	if s.Spec.Ordinals != nil {
		r.Start = int(s.Spec.Ordinals.Start)
	}
	return r
}

func (r *Request) scale(review *admissionv1.AdmissionRequest) (d Decision, done bool, err error) {
	var now, old autoscalingv1.Scale
	if err := json.Unmarshal(review.Object.Raw, &now); err != nil {
		return d, false, fmt.Errorf("read scale: %w", err)
	}
	if err := json.Unmarshal(review.OldObject.Raw, &old); err != nil {
		return d, false, fmt.Errorf("read scale: %w", err)
	}
	r.Verb, r.Range = Shrink, Range{Replicas: int(now.Spec.Replicas)}
	if now.Spec.Replicas >= old.Spec.Replicas {
		return Decision{Outcome: AllowSafe, Message: "no ordinal is lost"}, true, nil
	}
	return d, false, nil
}

func (r *Request) statefulSet(review *admissionv1.AdmissionRequest) (d Decision, done bool, err error) {
	var s metav1.PartialObjectMetadata
	if err := json.Unmarshal(review.OldObject.Raw, &s); err != nil {
		return d, false, fmt.Errorf("read statefulset: %w", err)
	}
	r.Verb, r.Name, r.Range = DeleteStatefulSet, s.Name, Range{Owner: s.UID}
	o, err := deleteOptions(review)
	if err != nil {
		return d, false, err
	}
	//nolint:staticcheck // OrphanDependents is deprecated, and still obeyed.
	orphan := ptr.Deref(o.OrphanDependents, false) || ptr.Deref(o.PropagationPolicy, "") == metav1.DeletePropagationOrphan
	if orphan {
		return Decision{Outcome: AllowOrphan}, true, nil
	}
	return d, false, nil
}
