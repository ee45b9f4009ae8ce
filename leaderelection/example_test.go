package leaderelection_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/component-base/config"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeeper"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// The examples run on a tree in memory. A program leaves Open out, and names Servers.
func exampleSession(ctx context.Context) *leaderelection.Session {
	tree := zookeepertest.NewTree(30 * time.Second)
	session, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{
		Open: func(context.Context) (leaderelection.Conn, error) { return tree.Open(), nil },
	})
	if err != nil {
		panic(err)
	}
	return session
}

// Run cancels the work the moment leadership is lost, and releases when the work has
// returned.
func ExampleRun() {
	ctx := context.Background()
	session := exampleSession(ctx)
	defer session.Close(ctx)
	err := leaderelection.Run(ctx, leaderelection.Config{
		Session: session, Namespace: "data", Name: "compactor", Identity: "pod-0",
	}, leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
		term := leaderelection.TermFrom(ctx)
		fmt.Println("leading with a token:", term.Token() > 0)
	}})
	fmt.Println(err)
	// Output:
	// leading with a token: true
	// <nil>
}

// The unmodified LeaderElector of client-go.
func ExampleNew() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	session := exampleSession(ctx)
	defer session.Close(context.Background())
	lock, err := leaderelection.New(leaderelection.Config{
		Session: session, Namespace: "data", Name: "compactor", Identity: "pod-0",
	})
	if err != nil {
		panic(err)
	}
	clientgo.RunOrDie(ctx, clientgo.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: clientgo.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { fmt.Println("leading"); cancel() },
			OnStoppedLeading: func() {},
		},
	})
	// Output: leading
}

// One line for controller-runtime. Its manager stops the work before it releases.
func ExampleNew_controllerRuntime() {
	ctx := context.Background()
	session := exampleSession(ctx)
	defer session.Close(ctx)
	lock, err := leaderelection.New(leaderelection.Config{
		Session: session, Namespace: "data", Name: "operator", Identity: "pod-0", StopsFirst: true,
	})
	if err != nil {
		panic(err)
	}
	mgr, err := ctrl.NewManager(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{
		LeaderElection:                      true,
		LeaderElectionReleaseOnCancel:       true,
		LeaderElectionResourceLockInterface: lock,
		MapperProvider:                      noMapper,
	})
	fmt.Println(mgr != nil, err)
	// Output: true <nil>
}

// The flags beside component-base's: --leader-elect-resource-lock chooses the store.
func ExampleOptions() {
	elect := &config.LeaderElectionConfiguration{LeaderElect: true, ResourceNamespace: "kube-system", ResourceName: "my-controller-manager"}
	elect.LeaseDuration.Duration, elect.RenewDeadline.Duration, elect.RetryPeriod.Duration = 15*time.Second, 10*time.Second, 2*time.Second
	options := leaderelection.NewOptions()
	flags := pflag.NewFlagSet("my-controller-manager", pflag.ContinueOnError)
	options.AddFlags(flags, elect)
	if err := flags.Parse([]string{"--leader-elect-resource-lock=zookeeper"}); err != nil {
		panic(err)
	}
	fmt.Println(options.Validate(elect))
	// store, err := options.Open(ctx, elect, leaderelection.Settings{Identity: hostname, Kubeconfig: kubeconfig})
	// store.Lock is a resourcelock.Interface for the LeaderElector.

	// Output: --leader-elect-zookeeper-servers: Required value: name at least one ZooKeeper server
}

// A write to ZooKeeper that fails once another leads, however late it arrives.
func ExampleTerm_Fence() {
	ctx := context.Background()
	tree := zookeepertest.NewTree(30 * time.Second)
	client := tree.Open() // in a program a *zookeeper.Client
	defer client.Close(ctx)
	session := exampleSessionOn(ctx, tree)
	defer session.Close(ctx)
	var term *leaderelection.Term
	err := leaderelection.Run(ctx, leaderelection.Config{Session: session, Namespace: "data", Name: "writer", Identity: "pod-0"},
		leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
			term = leaderelection.TermFrom(ctx)
			_, err := client.Multi(ctx, append(term.Fence(), &zookeeper.Create{Path: "/result"})...)
			fmt.Println("while leading:", err)
		}})
	if err != nil {
		panic(err)
	}
	_, err = client.Multi(ctx, append(term.Fence(), &zookeeper.Create{Path: "/late"})...)
	fmt.Println("afterwards refused:", err != nil)
	// Output:
	// while leading: <nil>
	// afterwards refused: true
}

// A client-go client that refuses to write once leadership is lost.
func ExampleFencedTransport() {
	work := func(ctx context.Context, kubeconfig *rest.Config) error {
		fenced := rest.CopyConfig(kubeconfig)
		fenced.Wrap(func(base http.RoundTripper) http.RoundTripper {
			return &leaderelection.FencedTransport{Term: leaderelection.TermFrom(ctx), Base: base, Reads: true}
		})
		_, err := kubernetes.NewForConfig(fenced)
		return err
	}
	ctx := context.Background()
	session := exampleSession(ctx)
	defer session.Close(ctx)
	err := leaderelection.Run(ctx, leaderelection.Config{Session: session, Namespace: "data", Name: "writer", Identity: "pod-0"},
		leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
			fmt.Println(work(ctx, &rest.Config{Host: "https://127.0.0.1:1"}))
		}})
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}
