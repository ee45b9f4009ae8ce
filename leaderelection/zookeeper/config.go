package zookeeper

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Auth are credentials for ZooKeeper's addauth.
type Auth struct {
	// Scheme, mostly "digest".
	Scheme string
	// Credential; for digest "user:password".
	Credential []byte
}

// Config of a Client. Only Servers has no default.
type Config struct {
	// Servers is a connection string: host:port,host:port/chroot. The port defaults to
	// 2181.
	Servers string
	// Timeout of the session to ask for. Default 10 s.
	Timeout time.Duration
	// TLS, or nil for plain text.
	TLS *tls.Config
	// Auth, or nil.
	Auth *Auth
	// Dial replaces the way to a server; TLS is laid over it. Default: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Lookup replaces name resolution. Default: net.Resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}
