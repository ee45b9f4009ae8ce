package leaderelection

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/component-base/config"

	lock "github.com/quorate/quorate/leaderelection"
)

// controllerManager is a sample one: component-base's flags, client-go's elector,
// and one line for the lock.
func controllerManager(ctx context.Context, kubeconfig *rest.Config, args []string, work func(context.Context)) error {
	elect := &config.LeaderElectionConfiguration{
		LeaderElect: true, ResourceLock: "leases", ResourceName: "sample", ResourceNamespace: "default",
		LeaseDuration: metav1.Duration{Duration: 4 * time.Second}, RenewDeadline: metav1.Duration{Duration: 2 * time.Second},
		RetryPeriod: metav1.Duration{Duration: 500 * time.Millisecond},
	}
	options, fs := lock.NewOptions(), pflag.NewFlagSet("sample", pflag.ContinueOnError)
	options.AddFlags(fs, elect)
	if err := fs.Parse(args); err != nil {
		return err
	}
	store, err := options.Open(ctx, elect, lock.Settings{Identity: "sample", Kubeconfig: kubeconfig})
	if err != nil {
		return err
	}
	elector, err := clientgo.NewLeaderElector(clientgo.LeaderElectionConfig{
		Lock: store.Lock, LeaseDuration: elect.LeaseDuration.Duration, RenewDeadline: elect.RenewDeadline.Duration, RetryPeriod: elect.RetryPeriod.Duration,
		ReleaseOnCancel: true,
		Callbacks:       clientgo.LeaderCallbacks{OnStartedLeading: work, OnStoppedLeading: func() {}},
	})
	if err == nil {
		elector.Run(ctx)
	}
	return errors.Join(err, store.Close(context.WithoutCancel(ctx)))
}

// The sample is flipped from Leases to ZooKeeper by the flag alone, on a real API
// server; the Lease that it leaves keeps the old kind from leading beside it.
func TestFlagFlipsTheStore(t *testing.T) {
	together(t)
	cp, e := planes.get(t), ensembles.get(t)
	common := []string{"--leader-elect-zookeeper-servers=" + e.Connect(), "--leader-elect-zookeeper-session-timeout=1m",
		"--leader-elect-zookeeper-tick=500ms", "--leader-elect-zookeeper-stop-time=500ms"}
	leads := func(kind string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		led := make(chan struct{})
		err := controllerManager(ctx, cp.RESTConfig(), append(common, "--leader-elect-resource-lock="+kind), func(ctx context.Context) {
			close(led)
			cancel()
			<-ctx.Done()
		})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		select {
		case <-led:
		default:
			t.Fatalf("%s did not lead within %v", kind, patience)
		}
	}
	holder := func() string {
		t.Helper()
		l, err := cp.Client.CoordinationV1().Leases("default").Get(t.Context(), "sample", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return *l.Spec.HolderIdentity
	}
	for _, kind := range []string{lock.Leases, lock.LeasesAndZooKeeper, lock.ZooKeeper} {
		leads(kind)
	}
	if got := holder(); got != lock.Tombstone {
		t.Errorf("Lease is held by %q, want %q", got, lock.Tombstone)
	}
	beside := false
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	wg.Go(func() {
		if err := controllerManager(ctx, cp.RESTConfig(), common, func(context.Context) { beside = true }); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if beside {
		t.Error("a replica that knows only the Lease leads beside ZooKeeper")
	}
	for _, kind := range []string{lock.LeasesAndZooKeeper, lock.Leases} {
		leads(kind)
	}
}
