package status

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/quorate/quorate/admission"
	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// FieldManager is who owns the fields of the status that this package writes.
const FieldManager = "quorate-status"

// Examiner asks the members of an ensemble how they are; a probe.Examiner is one.
type Examiner interface {
	// Examine asks each of the pods and returns one view of them, in their order, by
	// the time ctx ends.
	Examine(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View
}

// Reconciler is the status controller. Client, Reader and Examiner have no default.
type Reconciler struct {
	// Client reads Ensembles, from a cache if it has one, and writes.
	Client client.Client
	// Reader lists pods and budgets, live.
	Reader client.Reader
	// Examiner of the members. It may use configurations that it read a while ago.
	Examiner Examiner
	// Membership is where pods are placed, and tells when they change. nil: the
	// conditions of placement are left out.
	Membership *membership.Informer
	// Placement is what placement is judged by.
	Placement membership.Rules
	// Replicas as the Examiner has it: the desired voters of an Ensemble that states
	// none. nil: not known.
	Replicas func(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) (int, error)
	// Memory of grants, shared with the guard of this process. nil: its own.
	Memory *admission.Memory
	// Release drops the grants of an Ensemble that have ended and returns those that are
	// left, as a Guard's does. It must look afresh, whatever Examiner remembers. nil:
	// they stay until the guard writes the next one.
	Release func(ctx context.Context, key types.NamespacedName) ([]v1alpha1.Grant, error)
	// Timing of the guard's arming. Zero: the defaults.
	Timing admission.Timing
	// Events that people see on the Ensemble. nil: none.
	Events admission.Recorder
	// Metrics to register with. nil: not exported.
	Metrics prometheus.Registerer
	// Pace of looking and writing.
	Pace Pace

	once    sync.Once
	failed  error
	rhythms rhythms
	metrics *metrics
	changed chan event.GenericEvent
}

// Prepare fills in the defaults, registers the metrics and listens to the Membership.
// It must be called before the Membership runs; a second call does nothing.
func (r *Reconciler) Prepare() error {
	r.once.Do(func() {
		r.Pace = r.Pace.withDefaults()
		if r.Memory == nil {
			r.Memory = admission.NewMemory(admission.Remembered)
		}
		if r.Membership != nil {
			r.listen()
		}
		r.metrics, r.failed = newMetrics(r.Metrics, &r.rhythms)
	})
	return r.failed
}

// SetupWithManager adds the controller to the manager. It runs on the elected replica
// only. A process that is elected again sets it up with a new manager, once the one
// before has ended, and with that one's Client.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Client == nil || r.Reader == nil || r.Examiner == nil {
		return errors.New("set up status controller: Client, Reader and Examiner are needed")
	}
	if err := r.Prepare(); err != nil {
		return fmt.Errorf("set up status controller: %w", err)
	}
	b := ctrl.NewControllerManagedBy(mgr).Named("quorate-status").
		For(&v1alpha1.Ensemble{}, builder.WithPredicates(specOrGrants())).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.Pace.AtOnce})
	if r.Membership != nil {
		b = b.WatchesRawSource(source.Channel(r.changed, &handler.EnqueueRequestForObject{}))
	}
	return b.Complete(r)
}

// specOrGrants lets through what matters here: not our own writes.
func specOrGrants() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(u event.UpdateEvent) bool {
		before, ok := u.ObjectOld.(*v1alpha1.Ensemble)
		after, ok2 := u.ObjectNew.(*v1alpha1.Ensemble)
		return !ok || !ok2 || before.UID != after.UID || before.Generation != after.Generation ||
			!apiequality.Semantic.DeepEqual(before.Status.Grants, after.Status.Grants)
	}}
}

// listen hears of the Ensembles whose pods or nodes changed. What is not taken in time
// is dropped: the next regular look sees it.
func (r *Reconciler) listen() {
	r.changed = make(chan event.GenericEvent, 4096)
	r.Membership.Listen(func(_ *membership.Snapshot, changed []types.NamespacedName) {
		for _, key := range changed {
			e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
			select {
			case r.changed <- event.GenericEvent{Object: e}:
			default:
			}
		}
	})
}

// Reconcile looks at one Ensemble and writes what is new.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	e := &v1alpha1.Ensemble{}
	if err := r.Client.Get(ctx, req.NamespacedName, e); err != nil {
		r.rhythms.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if e.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	pods, err := r.pods(ctx, e)
	if err != nil {
		return ctrl.Result{}, err
	}
	view := r.look(ctx, e, pods)
	rhythm := r.rhythms.of(req.NamespacedName, e.UID)
	r.tell(e, rhythm, &view)
	armErr := r.arm(ctx, e)
	releaseErr := r.release(ctx, e)
	changed, err := r.write(ctx, e, pods, &view, rhythm)
	budgetErr := r.keepBudget(ctx, e, pods, &view)
	if err := errors.Join(armErr, releaseErr, err, budgetErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: rhythm.next(r.Pace, changed || len(e.Status.Grants) > 0)}, nil
}

// release ends grants, so that the status does not count as gone who is back, or who
// never went.
func (r *Reconciler) release(ctx context.Context, e *v1alpha1.Ensemble) error {
	if r.Release == nil || len(e.Status.Grants) == 0 {
		return nil
	}
	kept, err := r.Release(ctx, client.ObjectKeyFromObject(e))
	if err != nil {
		return err
	}
	e.Status.Grants = kept
	return nil
}

// pods of the Ensemble. The API server may answer from its cache: nothing is decided
// on them.
func (r *Reconciler) pods(ctx context.Context, e *v1alpha1.Ensemble) ([]corev1.Pod, error) {
	selector, err := e.Spec.Selector.Compile()
	if err != nil {
		return nil, fmt.Errorf("read selector: %w", err)
	}
	var list corev1.PodList
	err = r.Reader.List(ctx, &list, client.InNamespace(e.Namespace), client.MatchingLabelsSelector{Selector: selector},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	live := list.Items[:0]
	for i := range list.Items {
		if phase := list.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			live = append(live, list.Items[i])
		}
	}
	return live, nil
}

func (r *Reconciler) look(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	ctx, cancel := context.WithTimeout(ctx, r.Pace.Look)
	defer cancel()
	began := time.Now()
	v := r.Examiner.Examine(ctx, e, pods)
	r.metrics.look.Observe(time.Since(began).Seconds())
	r.Memory.Settle(e.UID, &v)
	return v
}

func (r *Reconciler) desired(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod) int {
	if e.Spec.Voters != nil {
		return int(*e.Spec.Voters)
	}
	if r.Replicas != nil {
		if n, err := r.Replicas(ctx, e, pods); err == nil {
			return n
		}
	}
	return 0
}

// tell counts the verdict, and tells people when it changes.
func (r *Reconciler) tell(e *v1alpha1.Ensemble, rhythm *rhythm, v *probe.View) {
	c := Quorate(e, v)
	r.metrics.looks.WithLabelValues(string(c.Status)).Inc()
	before := r.rhythms.quorate(rhythm, string(c.Status))
	switch {
	case c.Status == metav1.ConditionFalse && before != string(c.Status):
		r.event(e, corev1.EventTypeWarning, "QuorumLost", "Examine", "%s", c.Message)
	case c.Status == metav1.ConditionTrue && before == string(metav1.ConditionFalse):
		r.event(e, corev1.EventTypeNormal, "QuorumRestored", "Examine", "%s", c.Message)
	}
	if why := indispensable(e, v); why != "" && c.Status == metav1.ConditionTrue && before != string(c.Status) {
		r.event(e, corev1.EventTypeWarning, "NoMemberMayGo", "Examine", "%s", c.Message)
	}
}

func (r *Reconciler) event(e *v1alpha1.Ensemble, kind, reason, action, note string, args ...any) {
	if r.Events != nil {
		r.Events.Eventf(e, nil, kind, reason, action, "%s", short(fmt.Sprintf(note, args...), maxNote))
	}
}

// arm takes the step towards an armed guard that is due, by compare-and-swap.
func (r *Reconciler) arm(ctx context.Context, e *v1alpha1.Ensemble) error {
	step := admission.Arming(e, r.Memory.See(e, time.Now()), r.Timing)
	if step == nil {
		return nil
	}
	next := e.DeepCopy()
	next.Status.Guard = step
	switch err := r.Client.Status().Update(ctx, next); {
	case err == nil:
		next.DeepCopyInto(e)
		r.Memory.See(e, time.Now())
	case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err): // else somebody was faster
		return fmt.Errorf("arm guard: %w", err)
	}
	return nil
}

// write applies the status if it is another, and reports whether it is. A write that
// comes too soon after the last one is left to the next look.
func (r *Reconciler) write(ctx context.Context, e *v1alpha1.Ensemble, pods []corev1.Pod, v *probe.View, rhythm *rhythm) (changed bool, err error) {
	next := Observe(e, pods, v)
	next.Conditions = append(next.Conditions, r.placement(e)...)
	carry(&next, e.Status.Conditions, metav1.Now())
	if same(&next, &e.Status) {
		return false, nil
	}
	if !rhythm.written.IsZero() && time.Since(rhythm.written) < r.Pace.Write {
		return true, nil
	}
	if err := r.apply(ctx, e, &next); err != nil {
		return true, err
	}
	if why := infeasible(e.Status.Conditions, next.Conditions); why != "" {
		r.event(e, corev1.EventTypeWarning, "PlacementInfeasible", "Examine", "%s", why)
	}
	rhythm.written = time.Now()
	r.metrics.writes.Inc()
	return true, nil
}

// placement are its two conditions, as the informer shows them; those of before
// where it has not seen this object yet.
func (r *Reconciler) placement(e *v1alpha1.Ensemble) (conditions []metav1.Condition) {
	if r.Membership != nil {
		if s := r.Membership.Snapshot(); s != nil {
			if m, ok := s.Get(client.ObjectKeyFromObject(e)); ok && m.UID == e.UID && m.Object.Generation == e.Generation {
				return []metav1.Condition{membership.PlacementSafe(s, m, r.Placement), membership.PlacementFeasible(s, m)}
			}
		}
	}
	for _, c := range e.Status.Conditions {
		if c.Type == v1alpha1.ConditionPlacementSafe || c.Type == v1alpha1.ConditionPlacementFeasible {
			conditions = append(conditions, c)
		}
	}
	return conditions
}

// apply writes the fields that this package owns, and only to this very object.
func (r *Reconciler) apply(ctx context.Context, e *v1alpha1.Ensemble, s *v1alpha1.EnsembleStatus) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	if err != nil {
		return fmt.Errorf("apply status: %w", err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": e.Name, "namespace": e.Namespace, "uid": string(e.UID)},
		"status":   fields,
	}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Ensemble"))
	err = r.Client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it was made anew: the watch tells
		return nil
	}
	return err
}

func sameBudget(a, b *policyv1.PodDisruptionBudget) bool {
	return apiequality.Semantic.DeepEqual(a.Spec, b.Spec)
}
