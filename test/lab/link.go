package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Link is a TCP path that faults can be put on. It takes what faults it has one at
// a time: a new one replaces the last.
type Link struct {
	host    string
	proxies []*toxiproxy.Proxy
	lossy   bool // connections have lost bytes: none of them may go on
}

// NewLink listens on a host, or host:port, and passes every connection on to a
// target host:port. With a bare host it takes the target's port.
func NewLink(ctx context.Context, listen, target string) (*Link, error) {
	l := &Link{}
	return l, l.add(ctx, listen, target)
}

func (l *Link) add(ctx context.Context, listen, target string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(target); err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	} else if !strings.Contains(listen, ":") {
		listen = net.JoinHostPort(listen, port)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("link at %s: %w", listen, err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, listen, listen, target)
	if err := proxy.Start(); err != nil {
		return fmt.Errorf("link %s to %s: %w", listen, target, err)
	}
	l.host = host
	l.proxies = append(l.proxies, proxy)
	return nil
}

// Addr is the host:port that it listens on.
func (l *Link) Addr() string { return l.proxies[0].Listen }

// Cut closes all connections and refuses new ones.
func (l *Link) Cut() error {
	for _, p := range l.proxies {
		p.Stop()
	}
	return nil
}

// Drop keeps connections open and delivers nothing in either direction, as a
// network does that loses every packet.
func (l *Link) Drop() error { return l.replace(true, drop("upstream"), drop("downstream")) }

// DropAnswers delivers what the client sends and loses what the server answers: the
// outcome of every write in flight becomes unknown to the client.
func (l *Link) DropAnswers() error { return l.replace(true, drop("downstream")) }

// DropRequests loses what the client sends and delivers what the server does.
func (l *Link) DropRequests() error { return l.replace(true, drop("upstream")) }

// Slow delays each direction by this much.
func (l *Link) Slow(by time.Duration) error {
	return l.replace(false, slow("upstream", by), slow("downstream", by))
}

// Restore ends whatever fault there is. Connections that lost bytes are closed.
func (l *Link) Restore() error { return l.replace(false) }

// Close stops listening and closes every connection.
func (l *Link) Close() error { return l.Cut() }

func (l *Link) replace(lossy bool, toxics ...string) error {
	var errs []error
	for _, p := range l.proxies {
		if l.lossy {
			p.Stop()
		}
		p.Toxics.ResetToxics(context.Background())
		for _, toxic := range toxics {
			_, err := p.Toxics.AddToxicJson(strings.NewReader(toxic))
			errs = append(errs, err)
		}
		errs = append(errs, again(p))
	}
	l.lossy = lossy
	return errors.Join(errs...)
}

// again makes a proxy listen that may have stopped. A child that this process starts
// holds copies of its listeners, closed ones too, until it has become the other
// program: till then the address is in use.
func again(p *toxiproxy.Proxy) error {
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := p.Start()
		if errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-poll.C:
		case <-limit.C:
			return err
		}
	}
}

func drop(stream string) string {
	return fmt.Sprintf(`{"type":"timeout","stream":%q,"attributes":{"timeout":0}}`, stream)
}

func slow(stream string, by time.Duration) string {
	return fmt.Sprintf(`{"type":"latency","stream":%q,"attributes":{"latency":%d}}`, stream, by.Milliseconds())
}
