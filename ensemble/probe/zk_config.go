package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Digest is a user and password that ZooKeeper knows.
type Digest struct {
	User     string
	Password string
}

// The few words of ZooKeeper's client protocol that reading one node takes.
const (
	opGetData  = 4
	opAuth     = 100
	opClose    = -11
	xidAuth    = -4
	maxFrame   = 64 << 10
	configPath = "/zookeeper/config"
	// sessionMillis is asked for; the server may grant more. The session is closed
	// after the one read.
	sessionMillis = 4000
)

// errNoSession is no answer to who asks for a session: neither a grant nor a refusal.
var errNoSession = errors.New("no session was granted")

// readConfig reads the configuration that the server's ensemble runs by, as a client
// does. A client's session is written to a quorum before it is granted: that the
// answer comes at all proves that this server, its leader and a quorum still write, and
// that none comes (errNoSession) makes it doubtful. Nothing is proven where sessions are
// local (localSessionsEnabled).
func readConfig(ctx context.Context, dial dialer, auth *Digest) (*Config, error) {
	c, done, err := connect(ctx, dial)
	if err != nil {
		return nil, fmt.Errorf("dial: %w: %w", errNoSession, err)
	}
	defer done()
	switch err := openSession(c); {
	case errors.Is(err, errGarbage), errors.Is(err, errTooLong): // an answer all the same
		return nil, fmt.Errorf("open session: %w", err)
	case err != nil:
		return nil, fmt.Errorf("open session: %w: %w", errNoSession, err)
	}
	if auth != nil {
		if err := authenticate(c, auth); err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
	}
	data, err := getData(c, 1, configPath)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", configPath, err)
	}
	if err := send(c, request(2, opClose)); err != nil {
		return nil, fmt.Errorf("close session: %w", err)
	}
	return parseConfig(string(data))
}

func openSession(c io.ReadWriter) error {
	var b bytes.Buffer
	put(&b, int32(0), int64(0), int32(sessionMillis), int64(0)) // protocol, last zxid, timeout, session
	putBytes(&b, make([]byte, 16))                              // password
	b.WriteByte(0)                                              // not read-only
	if err := send(c, b.Bytes()); err != nil {
		return err
	}
	frame, err := receive(c)
	if err != nil {
		return err
	}
	var granted struct {
		Protocol, Timeout int32
		Session           int64
	}
	if err := binary.Read(bytes.NewReader(frame), binary.BigEndian, &granted); err != nil || granted.Session == 0 || granted.Timeout <= 0 {
		return fmt.Errorf("session refused: %w", errGarbage)
	}
	return nil
}

func authenticate(c io.ReadWriter, auth *Digest) error {
	var b bytes.Buffer
	b.Write(request(xidAuth, opAuth))
	put(&b, int32(0))
	putBytes(&b, []byte("digest"))
	putBytes(&b, []byte(auth.User+":"+auth.Password))
	if err := send(c, b.Bytes()); err != nil {
		return err
	}
	_, err := reply(c, xidAuth)
	return err
}

func getData(c io.ReadWriter, xid int32, path string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(request(xid, opGetData))
	putBytes(&b, []byte(path))
	b.WriteByte(0) // no watch
	if err := send(c, b.Bytes()); err != nil {
		return nil, err
	}
	body, err := reply(c, xid)
	if err != nil {
		return nil, err
	}
	if len(body) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	n := int32(binary.BigEndian.Uint32(body))
	if n < 0 || int(n) > len(body)-4 {
		return nil, fmt.Errorf("data of %d bytes: %w", n, errGarbage)
	}
	return body[4 : 4+n], nil
}

// reply reads the answer to xid, and refuses one with an error code.
func reply(r io.Reader, xid int32) ([]byte, error) {
	frame, err := receive(r)
	if err != nil {
		return nil, err
	}
	var header struct {
		Xid  int32
		Zxid int64
		Code int32
	}
	if err := binary.Read(bytes.NewReader(frame), binary.BigEndian, &header); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	switch {
	case header.Xid != xid:
		return nil, fmt.Errorf("answer to %d, not %d: %w", header.Xid, xid, errGarbage)
	case header.Code != 0:
		return nil, fmt.Errorf("the server answers with code %d", header.Code)
	}
	return frame[16:], nil
}

func request(xid, op int32) []byte {
	var b bytes.Buffer
	put(&b, xid, op)
	return b.Bytes()
}

func send(w io.Writer, body []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func receive(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes: %w", n, errTooLong)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(b, binary.BigEndian, v) // a Buffer takes everything
	}
}

func putBytes(b *bytes.Buffer, data []byte) {
	put(b, int32(len(data)))
	b.Write(data)
}
