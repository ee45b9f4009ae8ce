package extender

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// leaseView is what was seen of the Lease that the scheduler beside us is elected
// by. Times are those of seeing, never those in the Lease.
type leaseView struct {
	name        string
	known       bool
	renewed     bool // seen renewed since the start: it is in use
	gone        bool
	holder      string
	transitions int32
	duration    time.Duration
	seen        time.Time
}

// see notes the Lease and reports whether it changed hands: then another instance
// may have answered for pods until now.
func (v *leaseView) see(now time.Time, l *coordinationv1.Lease) (changed bool) {
	holder, transitions := "", int32(0)
	if l.Spec.HolderIdentity != nil {
		holder = *l.Spec.HolderIdentity
	}
	if l.Spec.LeaseTransitions != nil {
		transitions = *l.Spec.LeaseTransitions
	}
	changed = v.known && (holder != v.holder || transitions != v.transitions)
	v.renewed = v.renewed || v.known
	v.known, v.gone, v.holder, v.transitions, v.seen = true, false, holder, transitions, now
	if l.Spec.LeaseDurationSeconds != nil {
		v.duration = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	return changed
}

// stale says why the Lease cannot be believed: it was renewed all the time and is
// no more, so that another scheduler may have taken it unseen. A Lease that was
// never seen renewed is left over from somebody, and tells nothing.
func (v *leaseView) stale(now time.Time) string {
	if !v.renewed || v.gone || v.duration <= 0 || now.Sub(v.seen) < v.duration {
		return ""
	}
	return fmt.Sprintf("the scheduler's Lease %s was not seen renewed for %v: who schedules is not known; this passes once it is renewed (if the scheduler is not elected by it any more, delete it, or turn leader election on)",
		v.name, now.Sub(v.seen).Round(time.Second))
}

// LeaseWatch tells a Placer when its scheduler's Lease changes hands.
type LeaseWatch struct {
	// Client has no default.
	Client kubernetes.Interface
	// Lease that the scheduler is elected by.
	Lease types.NamespacedName
	// Placer that is told.
	Placer *Placer
}

// Run watches until ctx ends.
func (w *LeaseWatch) Run(ctx context.Context) error {
	w.Placer.watchLease(w.Lease)
	source := cache.NewListWatchFromClient(w.Client.CoordinationV1().RESTClient(), "leases", w.Lease.Namespace,
		fields.OneTermEqualSelector("metadata.name", w.Lease.Name))
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &coordinationv1.Lease{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.see(ctx, o) },
			UpdateFunc: func(_, o any) { w.see(ctx, o) },
			DeleteFunc: func(any) { w.Placer.leaseGone() },
		},
	})
	controller.RunWithContext(ctx)
	return nil
}

func (w *LeaseWatch) see(ctx context.Context, object any) {
	l, ok := object.(*coordinationv1.Lease)
	if ok && w.Placer.seeLease(l) {
		klog.FromContext(ctx).Info("The scheduler's Lease changed hands; pods may land where another instance sent them", "lease", klog.KObj(l))
	}
}

func (p *Placer) watchLease(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lease.name = name.String()
}

func (p *Placer) leaseGone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lease.gone = true
}

func (p *Placer) seeLease(l *coordinationv1.Lease) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Now()
	changed = p.lease.see(now, l)
	if s := p.config.Membership.Snapshot(); changed && p.ledger != nil && s != nil {
		p.ledger.Doubt(now, s.Ensembles())
		p.ledger.Strangers(now)
	}
	return changed
}
