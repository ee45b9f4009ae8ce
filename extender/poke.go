package extender

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// PokedAnnotation is what a poke writes to a pod. The scheduler tries a pod again
// that an extender refused only after events of the core API; a changed Ensemble is
// none, a changed annotation of the pod is.
const PokedAnnotation = "quorate.io/placement-changed"

// Annotator is a Poker that annotates the pod.
type Annotator struct {
	client kubernetes.Interface
	queue  chan poked
}

type poked struct {
	pod types.NamespacedName
	uid types.UID
}

// NewAnnotator makes one; Run does its work.
func NewAnnotator(client kubernetes.Interface) *Annotator {
	return &Annotator{client: client, queue: make(chan poked, 1024)}
}

// Poke implements Poker. When too many wait it drops the poke: the scheduler tries
// every pod again within five minutes.
func (a *Annotator) Poke(pod types.NamespacedName, uid types.UID) {
	select {
	case a.queue <- poked{pod, uid}:
	default:
	}
}

// Run annotates until ctx ends.
func (a *Annotator) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-a.queue:
			a.annotate(ctx, p)
		}
	}
}

func (a *Annotator) annotate(ctx context.Context, p poked) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"annotations":{%q:%q}}}`, p.uid, PokedAnnotation, time.Now().UTC().Format(time.RFC3339Nano))
	_, err := a.client.CoreV1().Pods(p.pod.Namespace).Patch(ctx, p.pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		klog.FromContext(ctx).Error(err, "Poke pod", "pod", p.pod)
	}
}
