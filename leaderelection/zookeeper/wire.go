package zookeeper

import (
	"encoding/binary"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// handshakeHead is how much of the server's first answer is looked at: its length,
// the protocol's version, the timeout and the session.
const handshakeHead = 20

// wire is one connection to a server, as go-zookeeper is given it. It
//   - bounds the whole handshake, which go-zookeeper lets take ten read timeouts;
//   - reads the granted timeout and the session's id, which it does not tell;
//   - notes when the server was last heard;
//   - tells go-zookeeper, as a server would, of an end of the watches that it keeps
//     from the connection before, which it does not forget by itself;
//   - never reports a failed write: go-zookeeper answers such a request twice, and
//     while it sends credentials again that blocks it for ever. The read side ends
//     instead, and with it every request, unanswered.
type wire struct {
	net.Conn
	until time.Time     // the handshake's end
	heard *atomic.Int64 // of the client
	now   func() int64

	ready atomic.Bool // the handshake is done
	head  []byte      // only touched by the reader, before ready
	told  []byte      // to the reader, before what the server says
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.told) > 0 {
		n := copy(p, w.told)
		w.told = w.told[n:]
		return n, nil
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(w.now())
		if !w.ready.Load() && len(w.head) < handshakeHead {
			w.head = append(w.head, p[:min(n, handshakeHead-len(w.head))]...)
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	if _, err := w.Conn.Write(p); err != nil {
		// The reader meets the closed connection.
		_ = w.Close()
	}
	return len(p), nil
}

// granted tells the timeout and session id of the handshake's answer. Only valid
// in the callback that says that there is a session.
func (w *wire) granted() (timeout time.Duration, session int64) {
	if len(w.head) < handshakeHead {
		return 0, 0
	}
	ms := int32(binary.BigEndian.Uint32(w.head[8:12]))
	return time.Duration(ms) * time.Millisecond, int64(binary.BigEndian.Uint64(w.head[12:20]))
}

// stateForgotten marks the events of forget: no server has such a state.
const stateForgotten zk.State = 1 << 20

// forget the watches of paths: an event of a node's deletion ends all that are kept for
// it. Only valid in the callback that says that there is a session: the reader begins
// after it.
func (w *wire) forget(paths []string) {
	for _, path := range paths {
		w.told = binary.BigEndian.AppendUint32(w.told, uint32(28+len(path)))
		w.told = binary.BigEndian.AppendUint32(w.told, math.MaxUint32) // xid -1: an event
		w.told = append(w.told, make([]byte, 12)...)                   // no zxid, no error
		w.told = binary.BigEndian.AppendUint32(w.told, uint32(zk.EventNodeDeleted))
		w.told = binary.BigEndian.AppendUint32(w.told, uint32(stateForgotten))
		w.told = binary.BigEndian.AppendUint32(w.told, uint32(len(path)))
		w.told = append(w.told, path...)
	}
}

// established lifts the handshake's bound.
func (w *wire) established() error {
	w.ready.Store(true)
	return w.Conn.SetDeadline(time.Time{})
}

func (w *wire) clamp(t time.Time) time.Time {
	if !w.ready.Load() && (t.IsZero() || t.After(w.until)) {
		return w.until
	}
	return t
}

func (w *wire) SetReadDeadline(t time.Time) error  { return w.Conn.SetReadDeadline(w.clamp(t)) }
func (w *wire) SetWriteDeadline(t time.Time) error { return w.Conn.SetWriteDeadline(w.clamp(t)) }
func (w *wire) SetDeadline(t time.Time) error      { return w.Conn.SetDeadline(w.clamp(t)) }
