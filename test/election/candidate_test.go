package election

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	clientgo "k8s.io/client-go/tools/leaderelection"
	"k8s.io/klog/v2"

	"github.com/quorate/quorate/leaderelection"
)

const (
	chaosTimeout = 3 * time.Second
	chaosStop    = 500 * time.Millisecond
)

func init() {
	roles["candidate"] = candidate
}

// candidate stands for election for ever, and acts on the resource while it leads.
func candidate() error {
	ctx := context.Background()
	var verbose flag.FlagSet
	klog.InitFlags(&verbose)
	if err := verbose.Set("v", "4"); err != nil {
		return err
	}
	var session *leaderelection.Session
	for session == nil {
		dialing, cancel := context.WithTimeout(ctx, 2*chaosTimeout)
		s, err := leaderelection.Dial(dialing, leaderelection.SessionConfig{
			Servers: os.Getenv("SERVERS"), Timeout: chaosTimeout, Tick: tick,
		})
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		session = s
	}
	store := &fencedStore{servers: os.Getenv("SERVERS")}
	stand := standByRun
	if os.Getenv("BARE") != "" {
		stand = standBare
	}
	pause := time.NewTicker(100 * time.Millisecond)
	for range pause.C {
		err := stand(ctx, session, store)
		fmt.Fprintln(os.Stderr, os.Getenv("NAME"), "term is over:", err)
	}
	return nil
}

// standByRun until a term is over.
func standByRun(ctx context.Context, session *leaderelection.Session, store *fencedStore) error {
	return leaderelection.Run(ctx, leaderelection.Config{
		Session: session, Namespace: "default", Name: "chaos", Identity: os.Getenv("NAME"),
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
		StopTime: chaosStop, StopsFirst: true,
	}, leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
		t := leaderelection.TermFrom(ctx)
		workUnder(ctx, t, t.Valid, store)
	}})
}

// standBare until a term is over, by client-go's elector alone: work is stopped when
// the elector cancels it, as late as that may be.
func standBare(ctx context.Context, session *leaderelection.Session, store *fencedStore) error {
	cfg := leaderelection.Config{
		Session: session, Namespace: "default", Name: "chaos", Identity: os.Getenv("NAME"),
		LeaseDuration: time.Second, RenewDeadline: 600 * time.Millisecond, RetryPeriod: 200 * time.Millisecond, StopTime: 200 * time.Millisecond,
	}
	lock, err := leaderelection.New(cfg)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	elector, err := clientgo.NewLeaderElector(clientgo.LeaderElectionConfig{
		Lock: lock, LeaseDuration: cfg.LeaseDuration, RenewDeadline: cfg.RenewDeadline, RetryPeriod: cfg.RetryPeriod, ReleaseOnCancel: true,
		Callbacks: clientgo.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(done)
				if t := lock.Term(); t != nil {
					workUnder(ctx, t, uninterrupted(ctx, t), store)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	<-done
	return nil
}

// uninterrupted is the context's word for as long as it is asked again and again. Who
// has been paused, for which only tokens are promised to help, asks the term.
func uninterrupted(ctx context.Context, t *leaderelection.Term) func() error {
	last := monotonic()
	return func() error {
		gap := monotonic() - last
		last += gap
		if gap > int64(chaosStop)/2 {
			return t.Valid()
		}
		return ctx.Err()
	}
}

// workUnder a term on both workloads, until it is told to stop.
func workUnder(ctx context.Context, t *leaderelection.Term, valid func() error, store *fencedStore) {
	var both sync.WaitGroup
	both.Go(func() { lead(ctx, t.Token(), valid) })
	both.Go(func() { store.lead(ctx, t) })
	both.Wait()
}

// lead acts for as long as the lock says so, and ctx lasts.
func lead(ctx context.Context, token int64, valid func() error) {
	conn, err := net.Dial("unix", os.Getenv("RESOURCE")) //nolint:noctx // on this machine
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	answers := bufio.NewScanner(conn)
	for next := time.NewTicker(2 * time.Millisecond); ; {
		checked := monotonic()
		if valid() != nil {
			return
		}
		if _, err := fmt.Fprintln(conn, token, checked); err != nil || !answers.Scan() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
	}
}
