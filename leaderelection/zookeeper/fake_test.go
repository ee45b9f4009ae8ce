package zookeeper_test

import (
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server is a ZooKeeper server as far as a handshake and pings go: it grants
// sessions, and answers each request as its test wants.
type server struct {
	net.Listener
	timeout  time.Duration
	zxid     uint64 // of every answer; go-zookeeper notes it, unless it is 0
	accepted atomic.Int32
	newest   atomic.Int64 // zxid that it has
	hang     atomic.Bool  // accept, and say nothing
	expire   atomic.Bool  // say that the session is over
	mute     atomic.Bool  // answer nothing after the handshake
	answer   func(s *server, op int32, body []byte) (errCode int32, ok bool)

	mu    sync.Mutex // guards below
	seen  []int64    // sessions of the requests other than pings, by op
	ops   []int32
	conns []net.Conn
}

var lastSession atomic.Int64 // of all servers: an ensemble has each id once

func newServer(timeout time.Duration) *server {
	s := &server{timeout: timeout, zxid: 1}
	s.newest.Store(math.MaxInt64)
	return s
}

func serve(t *testing.T, timeout time.Duration) *server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(timeout)
	s.Listener = l
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.take(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.disconnect()
		wg.Wait()
	})
	return s
}

// take a connection, and talk until it ends.
func (s *server) take(c net.Conn) {
	s.accepted.Add(1)
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	s.talk(c)
}

// disconnect all clients.
func (s *server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// open connections of all clients, and some that are closed.
func (s *server) open() []net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Conn(nil), s.conns...)
}

func (s *server) sessions() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.seen...)
}

func (s *server) talk(c net.Conn) {
	defer c.Close()
	hello, err := packet(c)
	if err != nil {
		return
	}
	if s.hang.Load() {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	if seen := int64(binary.BigEndian.Uint64(hello[4:12])); seen > s.newest.Load() {
		return // as a server does that is behind what its client has seen
	}
	session := int64(binary.BigEndian.Uint64(hello[16:24]))
	over := session != 0 && s.expire.Load()
	if session == 0 {
		session = lastSession.Add(1)
	}
	timeout := s.timeout
	if over {
		session, timeout = 0, 0
	}
	welcome := binary.BigEndian.AppendUint32(nil, 0)
	welcome = binary.BigEndian.AppendUint32(welcome, uint32(timeout/time.Millisecond))
	welcome = binary.BigEndian.AppendUint64(welcome, uint64(session))
	welcome = binary.BigEndian.AppendUint32(welcome, 16)
	send(c, append(welcome, make([]byte, 16)...))
	if session == 0 {
		return
	}
	for {
		p, err := packet(c)
		if err != nil {
			return
		}
		if s.mute.Load() {
			continue
		}
		if !s.reply(c, session, p) {
			return
		}
	}
}

func (s *server) reply(c net.Conn, session int64, p []byte) bool {
	xid, op := binary.BigEndian.Uint32(p[0:4]), int32(binary.BigEndian.Uint32(p[4:8]))
	var code int32
	if op != 11 { // a ping
		s.mu.Lock()
		s.seen, s.ops = append(s.seen, session), append(s.ops, op)
		s.mu.Unlock()
		if s.answer != nil {
			var ok bool
			if code, ok = s.answer(s, op, p[8:]); !ok {
				return false
			}
		}
	}
	head := binary.BigEndian.AppendUint32(nil, xid)
	head = binary.BigEndian.AppendUint64(head, s.zxid)
	head = binary.BigEndian.AppendUint32(head, uint32(code))
	send(c, append(head, make([]byte, 128)...))
	return true
}

func packet(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c, p)
	return p, err
}

func send(c net.Conn, p []byte) {
	_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
}
