package zookeeper_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// network is servers by their address, reached by pipes: inside a bubble, so that time
// is what the client makes of it.
type network map[string]func(net.Conn)

func (n network) dial(_ context.Context, _, address string) (net.Conn, error) {
	serve := n[address]
	if serve == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go serve(theirs)
	return ours, nil
}

func (n network) config(timeout time.Duration) zookeeper.Config {
	var servers []string
	for address := range n {
		servers = append(servers, address)
	}
	return zookeeper.Config{Servers: strings.Join(servers, ","), Timeout: timeout, Dial: n.dial}
}

// silent reads, and answers nothing.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// faltering begins its answer, and says no more.
func faltering(c net.Conn) {
	if _, err := packet(c); err == nil {
		_, _ = c.Write([]byte{0, 0, 0, 36, 0})
	}
	silent(c)
}

// P2: a server that accepts and says nothing, or not all, holds go-zookeeper up for 6.7
// session timeouts. Here two of them leave time enough for a third to save the session.
func TestSilentServersAreLeftForAnother(t *testing.T) {
	const timeout = 4 * time.Second
	for range 10 { // the order of servers is random
		synctest.Test(t, func(t *testing.T) {
			good := newServer(timeout)
			servers := network{"10.0.0.1:2181": silent, "10.0.0.2:2181": faltering, "10.0.0.3:2181": good.take}
			begin := time.Now()
			c := dial(t, servers.config(timeout))
			if took := time.Since(begin); took >= timeout {
				t.Errorf("session was established after %v, want it within its timeout of %v", took, timeout)
			}
			session, n := c.SessionID(), c.Connection()
			begin = time.Now()
			good.disconnect()
			connections(t, c, n+1)
			if took := time.Since(begin); took >= timeout || c.Err() != nil || c.SessionID() != session {
				t.Errorf("session after %v: got %#x, %v; want it, %#x, within its timeout of %v", took, c.SessionID(), c.Err(), session, timeout)
			}
		})
	}
}
