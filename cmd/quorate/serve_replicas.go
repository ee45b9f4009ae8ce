package main

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// owners of pods.
type owners struct{ client.Reader }

// replicas is how many members the StatefulSets of the namespace are to have, whichever
// of them are there: pods are the members that are.
func (o owners) replicas(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (int, error) {
	members, err := e.Spec.Selector.Compile()
	if err != nil {
		return 0, fmt.Errorf("read selector: %w", err)
	}
	var sets appsv1.StatefulSetList
	if err := o.List(ctx, &sets, client.InNamespace(e.Namespace)); err != nil {
		return 0, fmt.Errorf("list the members' owners: %w", err)
	}
	there := present{pods: map[string]*corev1.Pod{}, owners: map[types.UID]string{}}
	for i := range pods {
		there.add(&pods[i])
	}
	sum := 0
	for i := range sets.Items {
		sum += there.meant(&sets.Items[i], members)
		delete(there.owners, sets.Items[i].UID)
	}
	for _, name := range there.owners {
		return 0, fmt.Errorf("list the members' owners: StatefulSet %s is gone", name)
	}
	return sum, nil
}

// present are the members that are there.
type present struct {
	pods   map[string]*corev1.Pod
	owners map[types.UID]string // StatefulSets of theirs
}

func (t present) add(p *corev1.Pod) {
	t.pods[p.Name] = p
	if owner := metav1.GetControllerOf(p); owner != nil && owner.Kind == "StatefulSet" {
		t.owners[owner.UID] = owner.Name
	}
}

// meant is how many members the set is to have. Those that are absent will bear the
// labels of its template. A set that owns members, although its template would make
// none, has changed: all of its pods are taken for members.
func (t present) meant(set *appsv1.StatefulSet, members labels.Selector) int {
	first, replicas := 0, 1
	if set.Spec.Ordinals != nil {
		first = int(set.Spec.Ordinals.Start)
	}
	if set.Spec.Replicas != nil {
		replicas = int(*set.Spec.Replicas)
	}
	sum, makes := 0, false
	for i := first; i < first+replicas; i++ {
		l := labelsOf(set, i)
		selected := members.Matches(l)
		makes = makes || selected
		if selected || t.pods[l[appsv1.StatefulSetPodNameLabel]] != nil {
			sum++
		}
	}
	if _, owns := t.owners[set.UID]; owns && !makes {
		return replicas
	}
	return sum
}

// labelsOf the pod that the set makes for the ordinal.
func labelsOf(set *appsv1.StatefulSet, ordinal int) labels.Set {
	l := labels.Set{}
	maps.Copy(l, set.Spec.Template.Labels)
	l[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
	l[appsv1.StatefulSetPodNameLabel] = set.Name + "-" + strconv.Itoa(ordinal)
	return l
}
