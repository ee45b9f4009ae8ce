package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxAnswer bounds what is read of any one answer. mntr of 3.8 is 30 kB.
const maxAnswer = 256 << 10

var errTooLong = errors.New("the answer is too long")

// dialer opens a connection to the port of a member, over TLS where that is asked
// for.
type dialer func(ctx context.Context) (net.Conn, error)

// connect dials, and ends the connection when ctx does.
func connect(ctx context.Context, dial dialer) (c net.Conn, done func(), err error) {
	if c, err = dial(ctx); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { stop(); c.Close() }, nil
}

// word sends a four letter word and reads the whole answer: until the server closes
// the connection, which it does after each.
func word(ctx context.Context, dial dialer, name string) (string, error) {
	c, done, err := connect(ctx, dial)
	if err != nil {
		return "", fmt.Errorf("dial for %s: %w", name, err)
	}
	defer done()
	if _, err := io.WriteString(c, name); err != nil {
		return "", fmt.Errorf("send %s: %w", name, err)
	}
	text, err := readBounded(c)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(text), nil
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = errTooLong
	}
	return text, err
}
