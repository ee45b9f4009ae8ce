package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// examinerOf asks members how they are, with what r reads. A Secret is read when it is
// needed and not kept: only a Role in the Ensemble's namespace lets us.
func examinerOf(r client.Reader) *probe.Examiner {
	return &probe.Examiner{
		Secret: func(ctx context.Context, namespace, name string) (map[string][]byte, error) {
			var secret corev1.Secret
			if err := r.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret); err != nil {
				return nil, fmt.Errorf("read the probe's Secret (see deploy/examples/probe-credentials): %w", err)
			}
			return secret.Data, nil
		},
		Replicas: owners{r}.replicas,
	}
}

// owners of pods.
type owners struct{ client.Reader }

// replicas is the sum over the StatefulSets that own the pods.
func (o owners) replicas(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (int, error) {
	seen, sum := map[string]bool{}, 0
	for i := range pods {
		owner := metav1.GetControllerOf(&pods[i])
		if owner == nil || owner.Kind != "StatefulSet" || seen[owner.Name] {
			continue
		}
		seen[owner.Name] = true
		var set appsv1.StatefulSet
		if err := o.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: owner.Name}, &set); err != nil {
			return 0, fmt.Errorf("read the members' owner: %w", err)
		}
		if set.Spec.Replicas == nil {
			sum++
		} else {
			sum += int(*set.Spec.Replicas)
		}
	}
	return sum, nil
}
