package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// owners of pods.
type owners struct{ client.Reader }

// replicas is how many voters the StatefulSets of the namespace are to have, whichever
// of them are there: pods are the members that are.
func (o owners) replicas(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (int, error) {
	b := body{pods: map[string]*corev1.Pod{}, owners: map[types.UID]string{}}
	var err, unread error
	b.members, err = e.Spec.Selector.Compile()
	b.observers, unread = e.Spec.Observers.Compile()
	if err := errors.Join(err, unread); err != nil {
		return 0, fmt.Errorf("read selectors: %w", err)
	}
	var sets appsv1.StatefulSetList
	if err := o.List(ctx, &sets, client.InNamespace(e.Namespace)); err != nil {
		return 0, fmt.Errorf("list the members' owners: %w", err)
	}
	for i := range pods {
		b.add(&pods[i])
	}
	sum := 0
	for i := range sets.Items {
		sum += b.meant(&sets.Items[i])
		delete(b.owners, sets.Items[i].UID)
	}
	for _, name := range b.owners {
		return 0, fmt.Errorf("list the members' owners: StatefulSet %s is gone", name)
	}
	return sum, nil
}

// body of members: who belongs to it, who of them observes, and who is there.
type body struct {
	members, observers labels.Selector
	pods               map[string]*corev1.Pod
	owners             map[types.UID]string // StatefulSets of voters that are there
}

func (b *body) add(p *corev1.Pod) {
	b.pods[p.Name] = p
	owner := metav1.GetControllerOf(p)
	if owner != nil && owner.Kind == "StatefulSet" && !b.observers.Matches(labels.Set(p.Labels)) {
		b.owners[owner.UID] = owner.Name
	}
}

// meant is how many voters the set is to have. Those that are absent will bear the
// labels of its template. A set that owns voters, although its template would make no
// member, has changed: all of its pods are taken for members.
func (b *body) meant(set *appsv1.StatefulSet) int {
	first, replicas := 0, 1
	if set.Spec.Ordinals != nil {
		first = int(set.Spec.Ordinals.Start)
	}
	if set.Spec.Replicas != nil {
		replicas = min(int(*set.Spec.Replicas), quorum.MaxVoters+1) // one more is too many already
	}
	members, all, makes := 0, 0, false
	for i := first; i < first+replicas; i++ {
		l := labelsOf(set, i)
		p, selected := b.pods[l[appsv1.StatefulSetPodNameLabel]], b.members.Matches(l)
		makes = makes || selected
		if p != nil {
			l, selected = p.Labels, true
		}
		if b.observers.Matches(l) {
			continue
		}
		all++
		if selected {
			members++
		}
	}
	if _, owns := b.owners[set.UID]; owns && !makes {
		return all
	}
	return members
}

// labelsOf the pod that the set makes for the ordinal.
func labelsOf(set *appsv1.StatefulSet, ordinal int) labels.Set {
	l := labels.Set{}
	maps.Copy(l, set.Spec.Template.Labels)
	l[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
	l[appsv1.StatefulSetPodNameLabel] = set.Name + "-" + strconv.Itoa(ordinal)
	return l
}
