package leaderelection_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/quorate/quorate/leaderelection"
)

// locks, by what becomes of the Lease beside them.
var locks = map[string]func(*leaderelection.Lock, coordinationv1client.LeasesGetter) resourcelock.Interface{
	"no Lease": func(l *leaderelection.Lock, _ coordinationv1client.LeasesGetter) resourcelock.Interface { return l },
	"Lease sealed": func(l *leaderelection.Lock, api coordinationv1client.LeasesGetter) resourcelock.Interface {
		return leaderelection.NewSealed(l, api)
	},
	"Lease held": func(l *leaderelection.Lock, api coordinationv1client.LeasesGetter) resourcelock.Interface {
		return leaderelection.NewBridge(l, api)
	},
}

// leases is an API server's, which compares versions, as client-go's fake does not.
func leases() coordinationv1client.LeasesGetter {
	client := fake.NewClientset()
	var mu sync.Mutex
	version := 0
	bump := func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		write := action.(clienttesting.CreateAction)
		l := write.GetObject().(*coordinationv1.Lease).DeepCopy()
		gvr := action.GetResource()
		old, err := client.Tracker().Get(gvr, l.Namespace, l.Name)
		if err == nil && action.GetVerb() == "update" && old.(*coordinationv1.Lease).ResourceVersion != l.ResourceVersion {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, l.Name, fmt.Errorf("version moved"))
		}
		version++
		l.ResourceVersion = strconv.Itoa(version)
		if action.GetVerb() == "create" {
			err = client.Tracker().Create(gvr, l, l.Namespace)
		} else {
			err = client.Tracker().Update(gvr, l, l.Namespace)
		}
		return true, l, err
	}
	client.PrependReactor("update", "leases", bump)
	client.PrependReactor("create", "leases", bump)
	return client.CoordinationV1()
}

// way of one process to the API server.
type way struct {
	coordinationv1client.LeasesGetter
	requests atomic.Int32
	cut      atomic.Bool
	hangs    atomic.Bool  // until the caller gives up
	refuses  atomic.Bool  // what writes
	forgets  atomic.Bool  // to answer the next write, which is made
	slow     atomic.Int64 // what a request takes
}

func (w *way) Leases(namespace string) coordinationv1client.LeaseInterface {
	return &leasesByWay{w.LeasesGetter.Leases(namespace), w}
}

// send one request.
func (w *way) send(ctx context.Context) error {
	w.requests.Add(1)
	if w.hangs.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if slow := time.Duration(w.slow.Load()); slow > 0 {
		pass(slow)
	}
	if w.cut.Load() {
		return errors.New("connection refused")
	}
	return nil
}

// write by one request.
func (w *way) write(ctx context.Context) error {
	if err := w.send(ctx); err != nil {
		return err
	}
	if w.refuses.Load() {
		return errors.New("etcdserver: no space")
	}
	return nil
}

var errAnswerLost = errors.New("the server has asked for the client to terminate the connection")

type leasesByWay struct {
	coordinationv1client.LeaseInterface
	way *way
}

func (l *leasesByWay) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	if err := l.way.send(ctx); err != nil {
		return nil, err
	}
	return l.LeaseInterface.Get(ctx, name, opts)
}

func (l *leasesByWay) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if err := l.way.write(ctx); err != nil {
		return nil, err
	}
	return l.LeaseInterface.Create(ctx, lease, opts)
}

func (l *leasesByWay) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if err := l.way.write(ctx); err != nil {
		return nil, err
	}
	updated, err := l.LeaseInterface.Update(ctx, lease, opts)
	if err == nil && l.way.forgets.Swap(false) {
		return nil, errAnswerLost
	}
	return updated, err
}
