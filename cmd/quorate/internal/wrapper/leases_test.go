package wrapper

import (
	"context"
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clientgotesting "k8s.io/client-go/testing"
)

// held is a Lease of the holder; empty: of nobody.
func held(holder string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x", ResourceVersion: "7"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: new(int32(60))},
	}
}

func leases(client *fake.Clientset) *Leases {
	return &Leases{
		Client: client.CoordinationV1(), Namespace: "ns", Name: "x", Identity: "me",
		LeaseDuration: 10 * time.Minute, RenewDeadline: time.Minute, RetryPeriod: 10 * time.Millisecond,
	}
}

// A term ends as soon as another is seen to hold the Lease, not by the renew deadline,
// and whoever sees its context end knows why.
func TestDeposedAtOnce(t *testing.T) {
	client := fake.NewClientset(held(""))
	deposed := make(chan struct{})
	client.PrependReactor("update", "leases", func(clientgotesting.Action) (bool, runtime.Object, error) {
		select {
		case <-deposed:
			return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), "x", errors.New("another was faster"))
		default:
			return false, nil, nil
		}
	})
	client.PrependReactor("get", "leases", func(clientgotesting.Action) (bool, runtime.Object, error) {
		select {
		case <-deposed:
			return true, held("another"), nil
		default:
			return false, nil, nil
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var why error
	err := leases(client).Run(ctx, func(ctx context.Context, term Term) {
		close(deposed)
		<-ctx.Done()
		why = term.Err()
	})
	if !errors.Is(err, errDeposed) {
		t.Errorf("Run: got %v, want %v", err, errDeposed)
	}
	if !errors.Is(why, errDeposed) {
		t.Errorf("the term's error at its end: got %v, want %v", why, errDeposed)
	}
}

// Work that returns the moment its context ends does not hide why it ended.
func TestLostRenewalIsTold(t *testing.T) {
	for range 20 {
		client := fake.NewClientset(held(""))
		gone := make(chan struct{})
		broken := func(clientgotesting.Action) (bool, runtime.Object, error) {
			select {
			case <-gone:
				return true, nil, errors.New("no API server")
			default:
				return false, nil, nil
			}
		}
		client.PrependReactor("update", "leases", broken)
		client.PrependReactor("get", "leases", broken)
		l := leases(client)
		l.RenewDeadline = 50 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		err := l.Run(ctx, func(ctx context.Context, _ Term) {
			close(gone)
			<-ctx.Done()
		})
		cancel()
		if !errors.Is(err, errRenewal) {
			t.Fatalf("got %v, want %v", err, errRenewal)
		}
	}
}

// Work that returns by itself gives the Lease back, and nothing was lost.
func TestWorkEndsByItself(t *testing.T) {
	client := fake.NewClientset(held(""))
	var token int64
	err := leases(client).Run(t.Context(), func(_ context.Context, term Term) { token = term.Token() })
	if err != nil || token != 7 {
		t.Errorf("got %v and token %d, want the Lease's version, 7", err, token)
	}
	lease, err := client.CoordinationV1().Leases("ns").Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the Lease is still held by %s", *holder)
	}
}
