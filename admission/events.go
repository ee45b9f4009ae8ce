package admission

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// maxNote is how long the note of an Event may be: the API server refuses a longer one.
const maxNote = 1024

// Recorder tells people what happened to an object. An events.EventRecorder of
// client-go is one. It counts what differs in nothing but the note as one series,
// which keeps its first note: written when it begins, when it is one, each half hour,
// and when it ends. So a drain that is refused every five seconds costs two writes for
// as long as the Ensemble stays as it is.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// tell puts an Event on the Ensemble, where a decision concerns one. It regards the
// Ensemble as it was read, and is related to what the request would take away: so a
// series is of the same answer to the same request, and its note is true of all of it.
func (g *Guard) tell(req *Request, d *Decision) {
	if g.events == nil || d.Ensemble == "" || req.DryRun {
		return
	}
	kind, reason := corev1.EventTypeNormal, "DisruptionAllowed"
	if !d.Outcome.Allowed() {
		kind, reason = corev1.EventTypeWarning, "DisruptionDenied"
	}
	e := &v1alpha1.Ensemble{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Ensemble"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: req.Namespace, Name: d.Ensemble[len(req.Namespace)+1:], UID: d.EnsembleUID, ResourceVersion: d.EnsembleVersion,
		},
	}
	note := fmt.Sprintf("%s %s for %s: %s", req.Verb, req.Name, bounded(req.User, 253), d.Message)
	g.events.Eventf(e, req.subject(), kind, reason, string(req.Verb), "%s", bounded(note, maxNote))
}

// subject is what the request names.
func (r *Request) subject() runtime.Object {
	o := &corev1.ObjectReference{Namespace: r.Namespace, Name: r.Name}
	switch r.Verb {
	case Shrink, DeleteStatefulSet:
		o.APIVersion, o.Kind, o.UID = appsv1.SchemeGroupVersion.String(), "StatefulSet", r.Range.Owner
	default:
		o.APIVersion, o.Kind, o.UID = corev1.SchemeGroupVersion.String(), "Pod", r.PodUID
	}
	return o
}
