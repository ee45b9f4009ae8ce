package main

import (
	"fmt"
	"maps"
	"math"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// kvSet is a StatefulSet whose pods bear app=kv and the labels besides.
func kvSet(name string, replicas int32, besides map[string]string) *appsv1.StatefulSet {
	l := map[string]string{"app": "kv"}
	maps.Copy(l, besides)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name, UID: types.UID("uid-" + name)}}
	set.Spec.Replicas = &replicas
	set.Spec.Template.Labels = l
	return set
}

// kvPod is a ready pod of the set, with the labels that the set gives it.
func kvPod(set *appsv1.StatefulSet, ordinal int) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: set.Namespace, Name: fmt.Sprintf("%s-%d", set.Name, ordinal), Labels: maps.Clone(set.Spec.Template.Labels),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
	}}
	p.Labels[appsv1.PodIndexLabel] = fmt.Sprint(ordinal)
	p.Status.PodIP = "192.0.2.1" // nobody asks there
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return p
}

func matching(key string, values ...v1alpha1.LabelValue) v1alpha1.Selector {
	if len(values) == 1 {
		return v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{key: values[0]}}
	}
	return v1alpha1.Selector{MatchExpressions: []v1alpha1.SelectorRequirement{{Key: key, Operator: "In", Values: values}}}
}

func readerOf(sets ...*appsv1.StatefulSet) client.Reader {
	b := fake.NewClientBuilder().WithScheme(clientscheme.Scheme)
	for _, s := range sets {
		b = b.WithObjects(s)
	}
	return b.Build()
}

// One StatefulSet per zone, and nobody states the voters: those of the zones whose one
// pod went, and is not made again yet, count, so that no third one may go.
func TestVotersOfAbsentPodsCount(t *testing.T) {
	var sets []*appsv1.StatefulSet
	var there []corev1.Pod
	for i, name := range []string{"kv-a", "kv-b", "kv-c", "kv-d", "kv-e"} {
		sets = append(sets, kvSet(name, 1, nil))
		if i >= 2 {
			there = append(there, kvPod(sets[i], 0))
		}
	}
	e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "data"}, Spec: v1alpha1.EnsembleSpec{System: v1alpha1.Generic, Selector: matching("app", "kv")}}
	v := examinerOf(readerOf(sets...)).Examine(t.Context(), e, there)
	if !v.Known || v.Voters().Len() != 5 || v.Synced.Len() != 3 || v.Without(0, 0) != quorum.Safe || v.Without(quorum.SetOf(0), 0) == quorum.Safe {
		t.Errorf("got %d voters of which %d are synced, known=%t %s; without one of them: %s", v.Voters().Len(), v.Synced.Len(), v.Known, v.Reason, v.Without(quorum.SetOf(0), 0))
	}
}

// Which StatefulSets tell how many voters there are.
func TestReplicasAreCounted(t *testing.T) {
	var (
		app    = matching("app", "kv")
		three  = kvSet("kv", 3, nil)
		second = kvSet("second", 2, nil)
		other  = kvSet("other", 7, map[string]string{"app": "other"})
		unset  = kvSet("unset", 1, nil)
		late   = kvSet("late", 2, nil)
	)
	unset.Spec.Replicas = nil
	late.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 3}
	// Its pods were members before its template lost their label.
	changed := kvSet("changed", 3, map[string]string{"app": "else"})
	was := kvPod(changed, 0)
	was.Labels["app"] = "kv"
	elsewhere := kvSet("kv", 9, nil)
	elsewhere.Namespace = "elsewhere"
	again := kvSet("kv", 5, nil)
	again.UID = "made again"
	bare := kvPod(three, 7)
	bare.Name, bare.OwnerReferences = "bare", nil

	// What observes is so labelled in the template, or in the pod alone.
	watchers := kvSet("watchers", 2, map[string]string{"role": "watcher"})
	mixed := kvSet("mixed", 4, nil)
	relabelled := kvPod(mixed, 3)
	relabelled.Labels["role"] = "watcher"
	watcher, last := matching("role", "watcher"), matching(appsv1.PodIndexLabel, "2", "3")

	for name, c := range map[string]struct {
		selector v1alpha1.Selector
		sets     []*appsv1.StatefulSet
		there    []corev1.Pod
		want     int // -1: not known
		observes *v1alpha1.Selector
	}{
		"all are there":                   {app, []*appsv1.StatefulSet{three}, []corev1.Pod{kvPod(three, 0), kvPod(three, 1), kvPod(three, 2)}, 3, nil},
		"none is there":                   {app, []*appsv1.StatefulSet{three}, nil, 3, nil},
		"two sets":                        {app, []*appsv1.StatefulSet{three, second}, []corev1.Pod{kvPod(second, 0)}, 5, nil},
		"another set":                     {app, []*appsv1.StatefulSet{three, other}, []corev1.Pod{kvPod(three, 0)}, 3, nil},
		"another namespace":               {app, []*appsv1.StatefulSet{three, elsewhere}, []corev1.Pod{kvPod(three, 0)}, 3, nil},
		"the default":                     {app, []*appsv1.StatefulSet{unset}, []corev1.Pod{kvPod(unset, 0)}, 1, nil},
		"one more, on its way out":        {app, []*appsv1.StatefulSet{three}, []corev1.Pod{kvPod(three, 0), kvPod(three, 3)}, 3, nil},
		"pods that nobody owns":           {app, nil, []corev1.Pod{bare}, 0, nil},
		"an owner that is gone":           {app, []*appsv1.StatefulSet{second}, []corev1.Pod{kvPod(three, 0)}, -1, nil},
		"an owner that was made again":    {app, []*appsv1.StatefulSet{again}, []corev1.Pod{kvPod(three, 0)}, -1, nil},
		"some ordinals":                   {matching(appsv1.PodIndexLabel, "3", "4", "5"), []*appsv1.StatefulSet{late, three}, []corev1.Pod{kvPod(late, 3)}, 2, nil},
		"one name":                        {matching(appsv1.StatefulSetPodNameLabel, "late-4"), []*appsv1.StatefulSet{late}, nil, 1, nil},
		"a template that changed":         {app, []*appsv1.StatefulSet{changed}, []corev1.Pod{was}, 3, nil},
		"a set of observers":              {app, []*appsv1.StatefulSet{three, watchers}, []corev1.Pod{kvPod(three, 0), kvPod(watchers, 0), kvPod(watchers, 1)}, 3, &watcher},
		"the same, of a set that is gone": {app, []*appsv1.StatefulSet{three}, []corev1.Pod{kvPod(three, 0), kvPod(watchers, 0)}, 3, &watcher},
		"observers by ordinal":            {app, []*appsv1.StatefulSet{mixed}, []corev1.Pod{kvPod(mixed, 0), kvPod(mixed, 3)}, 2, &last},
		"an observer by its own label":    {app, []*appsv1.StatefulSet{mixed}, []corev1.Pod{kvPod(mixed, 0), relabelled}, 3, &watcher},
		"more than have numbers":          {app, []*appsv1.StatefulSet{kvSet("kv", math.MaxInt32, nil)}, nil, quorum.MaxVoters + 1, nil},
		"of a template that changed":      {app, []*appsv1.StatefulSet{changed}, []corev1.Pod{was}, 2, &last},
	} {
		t.Run(name, func(t *testing.T) {
			e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "data"}, Spec: v1alpha1.EnsembleSpec{Selector: c.selector, Observers: c.observes}}
			got, err := owners{readerOf(c.sets...)}.replicas(t.Context(), e, c.there)
			if err != nil {
				got = -1
			}
			if got != c.want {
				t.Errorf("got %d (%v), want %d", got, err, c.want)
			}
		})
	}
}
