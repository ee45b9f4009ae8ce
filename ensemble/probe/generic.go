package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Generic takes a member's readiness for its health, and asks an HTTP endpoint of
// its where one is named: 200 means in sync, any other status that it is not.
type Generic struct {
	// Port of the endpoint; 0: none.
	Port int32
	// Path of the endpoint.
	Path string
	// TLS makes it be asked over TLS; nil: in plain.
	TLS *tls.Config
}

var _ Prober = (*Generic)(nil)

// readiness is the source of what was not asked of the member, but read of its pod.
const readiness = "readiness"

// Probe implements Prober.
func (g *Generic) Probe(ctx context.Context, t Target) Answer {
	a := Answer{Target: t, At: time.Now(), Source: readiness}
	switch {
	case !t.IP.IsValid():
		a.Reason = "its pod has no address yet"
		return a
	case !t.Ready:
		a.Heard, a.Role, a.Reason = true, Voter, "its pod is not ready"
	case g.Port == 0:
		a.Heard, a.Role, a.Serving = true, Voter, true
	default:
		g.ask(ctx, &a)
	}
	if a.Role == Voter && t.Observer {
		a.Role = Observer
	}
	a.Took = time.Since(a.At)
	return a
}

func (g *Generic) ask(ctx context.Context, a *Answer) {
	dial := dialTo(a.Target, g.Port, g.TLS)
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxResponseHeaderBytes: 16 << 10,
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}
	defer transport.CloseIdleConnections()
	a.Source = "HTTP"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://member"+or(g.Path, "/"), nil)
	if err != nil {
		a.Reason = "the path of its endpoint makes no sense"
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		a.Reason = failure(err)
		return
	}
	resp.Body.Close() // unread: the status says all
	a.Heard, a.Role, a.Serving = true, Voter, resp.StatusCode == http.StatusOK
	if !a.Serving {
		a.Reason = fmt.Sprintf("its endpoint answers with HTTP status %d", resp.StatusCode)
	}
}
