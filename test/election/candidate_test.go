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
	pause := time.NewTicker(100 * time.Millisecond)
	for range pause.C {
		err := leaderelection.Run(ctx, leaderelection.Config{
			Session: session, Namespace: "default", Name: "chaos", Identity: os.Getenv("NAME"),
			LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
			StopTime: chaosStop, StopsFirst: true,
		}, leaderelection.Callbacks{OnStartedLeading: func(ctx context.Context) {
			t := leaderelection.TermFrom(ctx)
			var works sync.WaitGroup
			works.Go(func() { lead(ctx, t.Token(), t.Valid) })
			works.Go(func() { store.lead(ctx, t) })
			works.Wait()
		}})
		fmt.Fprintln(os.Stderr, os.Getenv("NAME"), "term is over:", err)
	}
	return nil
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
