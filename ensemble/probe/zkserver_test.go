package probe

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// zkServer answers as a ZooKeeper server does, from texts.
type zkServer struct {
	mu sync.Mutex // guards what change changes
	// words are the answers to four letter words; others are not whitelisted.
	words map[string]string
	// commands are the answers of the AdminServer; others are unknown to it. Nil: it
	// is switched off.
	commands map[string]string
	// config is what /zookeeper/config holds; empty: there is no such node.
	config string
	// greets is what is done instead of granting a session, if anything.
	greets func(net.Conn)
	// credentials that the client must give, if any.
	credentials string
}

// change changes what it answers.
func (z *zkServer) change(how func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	how()
}

func (z *zkServer) word(name string) (string, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	text, ok := z.words[name]
	return text, ok
}

func (z *zkServer) node() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.config
}

// start serves until the test ends, and returns who asks it.
func (z *zkServer) start(t *testing.T) (*ZooKeeper, Target) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go z.serve(c)
		}
	}()
	prober := &ZooKeeper{ClientPort: portOf(l.Addr())}
	if z.commands != nil {
		web := httptest.NewServer(http.HandlerFunc(z.admin))
		t.Cleanup(web.Close)
		prober.AdminPort = portOf(web.Listener.Addr())
	}
	return prober, loopback("zk-0")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// nobody's port: it is taken, by a connection to elsewhere, and nobody listens there.
func nobody(t *testing.T) int32 {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listen(t).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return portOf(c.LocalAddr())
}

func portOf(a net.Addr) int32 { return int32(a.(*net.TCPAddr).Port) }

func loopback(name string) Target {
	return Target{Name: name, UID: types.UID("uid-" + name), IP: netip.MustParseAddr("127.0.0.1")}
}

func (z *zkServer) admin(w http.ResponseWriter, r *http.Request) {
	command := strings.TrimPrefix(r.URL.Path, "/commands/")
	text, ok := z.commands[command]
	if !ok {
		text = fmt.Sprintf(`{"command":%q,"error":"Unknown command: %s"}`, command, command)
	}
	_, _ = io.WriteString(w, text) // HTTP status 200, whatever it says
}

func (z *zkServer) serve(c net.Conn) {
	defer c.Close()
	var first [4]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return
	}
	if first[0] >= 'a' {
		text, ok := z.word(string(first[:]))
		if !ok {
			text = string(first[:]) + " is not executed because it is not in the whitelist.\n"
		}
		_, _ = io.WriteString(c, text)
		return
	}
	if z.greets != nil {
		z.greets(c)
		return
	}
	z.session(c, int(binary.BigEndian.Uint32(first[:])))
}

// session answers a client, from the connect request on.
func (z *zkServer) session(c net.Conn, length int) {
	_, _ = io.CopyN(io.Discard, c, int64(length))
	granted := binary.BigEndian.AppendUint32(nil, 0)
	granted = binary.BigEndian.AppendUint32(granted, sessionMillis)
	granted = binary.BigEndian.AppendUint64(granted, 42)
	granted = binary.BigEndian.AppendUint32(granted, 16)
	_ = send(c, append(granted, make([]byte, 17)...))
	authentic := z.credentials == ""
	for {
		frame, err := receive(c)
		if err != nil || len(frame) < 8 {
			return
		}
		xid, op := int32(binary.BigEndian.Uint32(frame)), int32(binary.BigEndian.Uint32(frame[4:]))
		body, code := []byte(nil), int32(0)
		switch op {
		case opAuth:
			authentic = strings.Contains(string(frame), z.credentials)
		case opGetData:
			body = binary.BigEndian.AppendUint32(nil, uint32(len(z.node())))
			body = append(append(body, z.node()...), make([]byte, 68)...)
			switch {
			case !authentic:
				body, code = nil, -102
			case z.node() == "":
				body, code = nil, -101
			}
		}
		head := binary.BigEndian.AppendUint32(nil, uint32(xid))
		head = binary.BigEndian.AppendUint64(head, 7)
		_ = send(c, append(binary.BigEndian.AppendUint32(head, uint32(code)), body...))
	}
}
