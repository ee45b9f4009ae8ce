package zookeeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Defaults of a Config.
const (
	DefaultTimeout    = 10 * time.Second
	DefaultMaxMessage = 64 << 10
	defaultPort       = "2181"
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
	// 2181. Names are resolved again when all servers were tried.
	Servers string
	// Timeout of the session to ask for. Default 10 s.
	Timeout time.Duration
	// TLS, or nil for plain text. The server's name defaults to the host that was
	// dialled.
	TLS *tls.Config
	// Auth, or nil.
	Auth *Auth
	// MaxMessage is the size of the largest request and answer, and of the two buffers
	// that a session keeps. Default 64 KiB, which lists about a thousand children.
	MaxMessage int
	// Dial replaces the way to a server; TLS is laid over it. Default: net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Lookup replaces name resolution. Default: net.Resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

func (c *Config) complete() error {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = DefaultMaxMessage
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Lookup == nil {
		c.Lookup = net.DefaultResolver.LookupHost
	}
	if c.Timeout < 100*time.Millisecond {
		return fmt.Errorf("session timeout %v is below 100ms", c.Timeout)
	}
	return nil
}

// authenticated is whether the server will know who created a node.
func (c *Config) authenticated() bool {
	return c.Auth != nil || (c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil))
}

// ParseServers splits a connection string into its host:port pairs and its chroot,
// which is empty or begins with a slash. All problems are reported at once.
func ParseServers(s string) (servers []string, chroot string, err error) {
	hosts, chroot := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		hosts, chroot = s[:i], strings.TrimRight(s[i:], "/")
	}
	var errs []error
	if strings.Contains(chroot, "//") {
		errs = append(errs, fmt.Errorf("chroot %q has an empty part", chroot))
	}
	for part := range strings.SplitSeq(hosts, ",") {
		server, err := parseServer(strings.TrimSpace(part))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		servers = append(servers, server)
	}
	return servers, chroot, errors.Join(errs...)
}

func parseServer(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty server name")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		// No port, unless it is something else that is wrong.
		if host, port, err = net.SplitHostPort(s + ":" + defaultPort); err != nil {
			host, port, err = net.SplitHostPort("[" + s + "]:" + defaultPort)
		}
	}
	if err != nil {
		return "", fmt.Errorf("server %q: %w", s, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return "", fmt.Errorf("server %q: want host:port", s)
	}
	return net.JoinHostPort(host, port), nil
}
