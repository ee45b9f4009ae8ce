package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/probe"
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
