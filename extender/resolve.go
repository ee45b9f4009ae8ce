package extender

import (
	"context"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/ensemble/membership"
)

// Resolver writes the default topology of Ensembles that state none, since nothing
// may be placed before it is read back. The status controller does the same where it
// runs; whoever is first wins, by compare-and-swap.
type Resolver struct {
	config ResolverConfig
	heard  *hearing
}

// ResolverConfig is what a Resolver needs. Neither has a default.
type ResolverConfig struct {
	Membership Membership
	// Ensembles is membership.NewClient's.
	Ensembles rest.Interface
}

// NewResolver makes a resolver and has it listen.
func NewResolver(c ResolverConfig) *Resolver {
	r := &Resolver{config: c, heard: newHearing()}
	c.Membership.Listen(r.heard.hear)
	return r
}

// again is after how long a failed write is tried again.
const again = 2 * time.Second

// Run resolves until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	retry := time.NewTicker(again)
	defer retry.Stop()
	failed := map[types.NamespacedName]struct{}{}
	for {
		var work map[types.NamespacedName]struct{}
		select {
		case <-ctx.Done():
			return nil
		case <-r.heard.wake:
			work = r.heard.take()
		case <-retry.C:
			work = maps.Clone(failed)
		}
		for key := range work {
			delete(failed, key)
			if !r.resolve(ctx, key) {
				failed[key] = struct{}{}
			}
		}
	}
}

// resolve reports whether nothing is left to do.
func (r *Resolver) resolve(ctx context.Context, key types.NamespacedName) bool {
	s := r.config.Membership.Snapshot()
	if s == nil {
		return false
	}
	e, ok := s.Get(key)
	if !ok || !membership.Unresolved(s, e) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	topology := membership.Resolve(s, e)
	err := membership.WriteTopology(ctx, r.config.Ensembles, e.Object, topology)
	switch {
	case err == nil:
		klog.FromContext(ctx).Info("Resolved the default topology", "ensemble", key, "topology", topology)
	case apierrors.IsConflict(err), apierrors.IsNotFound(err): // somebody was faster; the next snapshot tells
	default:
		klog.FromContext(ctx).Error(err, "Resolve the default topology", "ensemble", key)
		return false
	}
	return true
}
