package election

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// Annotations of the pointer.
const (
	annotationStore   = "quorate.io/election-store"
	annotationAddress = "quorate.io/election-address"
	annotationHolder  = "quorate.io/election-holder"
)

// place is where an election is held: by identity, and how it was reached.
type place struct{ store, address string }

// pointer is the Lease that says where the election is held.
type pointer struct {
	leases coordinationclient.LeaseInterface
	name   string
}

// read returns the place, and the object to write with; nil where there is none.
func (p pointer) read(ctx context.Context) (place, *coordinationv1.Lease, error) {
	lease, err := p.leases.Get(ctx, p.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return place{}, nil, nil
	}
	if err != nil {
		return place{}, nil, fmt.Errorf("read where the election is held: %w", err)
	}
	return place{lease.Annotations[annotationStore], lease.Annotations[annotationAddress]}, lease, nil
}

// write puts the place in, if the pointer is still as it was read.
func (p pointer) write(ctx context.Context, read *coordinationv1.Lease, at place, holder string) error {
	annotations := map[string]string{annotationStore: at.store, annotationAddress: at.address, annotationHolder: holder}
	var err error
	if read == nil {
		_, err = p.leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: p.name, Annotations: annotations}}, metav1.CreateOptions{})
	} else {
		lease := read.DeepCopy()
		lease.Annotations = annotations
		_, err = p.leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write where the election is held: %w", err)
	}
	return nil
}
