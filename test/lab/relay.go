package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// relay stands between a link and a server's peer or election port, and does what a
// link alone would get wrong.
//
// A link takes a connection before the server listens, and breaks it then, where a
// peer expects to be refused and would try again: the relay waits for the server.
//
// Of two servers only the one of the higher number keeps an election connection that
// it has opened; called by the other, it hangs up and calls back at the address that
// the caller names (QuorumCnxManager), past the link: the relay names another.
type relay struct {
	listener net.Listener
	target   string // host:port of the server
	callback string // host:port at which a caller is called back; empty: as it says

	mu    sync.Mutex // guards below
	conns map[net.Conn]struct{}

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func newRelay(ctx context.Context, listen, target, callback string) (*relay, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", target, err)
	}
	r := &relay{listener: listener, target: target, callback: callback, conns: map[net.Conn]struct{}{}}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.wait.Go(r.accept)
	return r, nil
}

// addr is the host:port that it listens on.
func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		peer, err := r.listener.Accept()
		if err != nil {
			return
		}
		if r.hold(peer) {
			r.wait.Go(func() { r.pass(peer) })
		}
	}
}

// pass a connection on, until either side ends it.
func (r *relay) pass(peer net.Conn) {
	defer r.release(peer)
	var hello []byte
	if r.callback != "" {
		var err error
		if hello, err = r.hello(peer); err != nil {
			return
		}
	}
	server, err := r.dial()
	if err != nil || !r.hold(server) {
		return
	}
	defer r.release(server)
	r.wait.Go(func() {
		defer r.release(peer)
		_, _ = io.Copy(peer, server)
	})
	if _, err := server.Write(hello); err == nil {
		_, _ = io.Copy(server, peer)
	}
}

// dial waits a few seconds for the server to listen.
func (r *relay) dial() (conn net.Conn, err error) {
	err = Await(r.ctx, 5*time.Second, r.target, func(ctx context.Context) (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", r.target)
		return err
	})
	return conn, err
}

// hello is what a peer opens an election connection with, with our address in it:
// protocol version, number of the server, length of the address, address.
func (r *relay) hello(from io.Reader) ([]byte, error) {
	const fixed, longest = 8 + 8 + 4, 2048
	hello := make([]byte, fixed)
	if _, err := io.ReadFull(from, hello); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(hello[fixed-4:])
	if size > longest {
		return nil, errors.New("no election: the address is too long")
	}
	if _, err := io.CopyN(io.Discard, from, int64(size)); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(hello[fixed-4:], uint32(len(r.callback)))
	return append(hello, r.callback...), nil
}

// hold a connection, so that Close ends it; after Close there are none.
func (r *relay) hold(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		_ = conn.Close()
		return false
	}
	r.conns[conn] = struct{}{}
	return true
}

func (r *relay) release(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = conn.Close()
	delete(r.conns, conn)
}

// Close stops listening, closes every connection and waits for the goroutines.
func (r *relay) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	r.cancel()
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.wait.Wait()
	return err
}
