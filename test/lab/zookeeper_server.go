package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is one ZooKeeper server. It keeps its address and its data over any
// number of starts. Its methods are for one goroutine at a time.
type Server struct {
	config  ZooKeeperConfig
	member  ZooKeeperMember
	through map[[2]int]*Link // how it reaches its peers; empty: directly
	process *Process
}

// NewZooKeeperServer is the server of this number in the configuration, whose Dir
// and Members must be given. It starts nothing.
func NewZooKeeperServer(c ZooKeeperConfig, id int) (*Server, error) {
	if c.Dir == "" {
		return nil, errors.New("new ZooKeeper server: the configuration names no folder")
	}
	for _, m := range c.Members {
		if m.ID == id {
			return &Server{config: c, member: m.withDefaults()}, nil
		}
	}
	return nil, fmt.Errorf("new ZooKeeper server: no member %d in the configuration", id)
}

// ID is the server's number.
func (s *Server) ID() int { return s.member.ID }

// Addr is the host:port of its client port.
func (s *Server) Addr() string { return hostPort(s.member.ClientHost, s.member.ClientPort) }

// SecureAddr is the host:port of its TLS client port.
func (s *Server) SecureAddr() string { return hostPort(s.member.ClientHost, s.member.SecurePort) }

// AdminURL is the root of its AdminServer's commands.
func (s *Server) AdminURL() string {
	return "http://" + hostPort(s.member.ClientHost, s.member.AdminPort) + "/commands"
}

// DataDir is where it keeps snapshots and transactions.
func (s *Server) DataDir() string { return filepath.Join(s.dir(), "data") }

// Log is what it printed.
func (s *Server) Log() string { return filepath.Join(s.dir(), "zookeeper.log") }

func (s *Server) dir() string { return s.config.serverDir(s.member.ID) }

// Running says whether its process exists, paused or not.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Done():
		return false
	default:
		return true
	}
}

// Process is the JVM of the last start; nil before the first.
func (s *Server) Process() *Process { return s.process }

// Start starts the JVM. It does not wait until the server serves.
func (s *Server) Start(ctx context.Context) error {
	if s.Running() {
		return fmt.Errorf("start ZooKeeper server %d: it runs already", s.member.ID)
	}
	classpath, err := zooKeeperClasspath()
	if err != nil {
		return err
	}
	if err := s.writeConfig(); err != nil {
		return fmt.Errorf("configure ZooKeeper server %d: %w", s.member.ID, err)
	}
	args := []string{
		"-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.NIOServerCnxn=warn",
	}
	if s.config.ReadOnly {
		args = append(args, "-Dreadonlymode.enabled=true")
	}
	if s.config.SuperPassword != "" {
		args = append(args, "-Dzookeeper.DigestAuthenticationProvider.superDigest="+digest("super", s.config.SuperPassword))
	}
	s.process, err = StartProcess(ctx, ProcessConfig{
		Name: "zookeeper", Path: "java", LogDir: s.dir(), Namespace: s.member.Namespace,
		Args: append(args, "-cp", classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir(), "zoo.cfg")),
	})
	return err
}

// Stop ends it as an operator would (SIGTERM) and waits; SIGKILL when the context
// ends first.
func (s *Server) Stop(ctx context.Context) error {
	if !s.Running() {
		return nil
	}
	if err := s.process.Signal(syscall.SIGTERM); err != nil && s.Running() {
		return err
	}
	select {
	case <-s.process.Done():
		return nil
	case <-ctx.Done():
		return s.process.Kill()
	}
}

// Kill ends it with SIGKILL and waits until it is gone.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	return s.process.Kill()
}

// Close is Kill.
func (s *Server) Close() error { return s.Kill() }

// Pause stops the JVM where it is (SIGSTOP): sockets stay open, nothing answers.
func (s *Server) Pause() error { return s.process.Pause() }

// Resume lets a paused JVM go on.
func (s *Server) Resume() error { return s.process.Resume() }

// WipeData throws away all that a stopped server knows. At its next start it is
// new, with the server list it was first given.
func (s *Server) WipeData() error {
	if s.Running() {
		return fmt.Errorf("wipe data of ZooKeeper server %d: it runs", s.member.ID)
	}
	for _, name := range []string{"data", "zoo.cfg", dynamicConfig, dynamicConfig + established} {
		if err := os.RemoveAll(filepath.Join(s.dir(), name)); err != nil {
			return err
		}
	}
	return nil
}

// WaitServing waits until the server says that it leads, follows or observes. It
// fails at once when the process ends.
func (s *Server) WaitServing(ctx context.Context) error {
	err := Await(ctx, patience, "ZooKeeper server "+strconv.Itoa(s.member.ID), func(ctx context.Context) error {
		if !s.Running() {
			return Stop(errors.New("its process ended"))
		}
		_, err := s.Mode(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; the end of its log:\n%s", err, tail(s.Log(), 2000))
	}
	return nil
}

// Mode is what the server says it is: leader, follower or observer. A server that
// does not serve has no mode but an error.
func (s *Server) Mode(ctx context.Context) (string, error) {
	answer, err := s.FourLetters(ctx, "srvr")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(answer) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode), nil
		}
	}
	return "", fmt.Errorf("ask ZooKeeper server %d for its mode: %s", s.member.ID, strings.TrimSpace(answer))
}

// FourLetters sends one of ZooKeeper's four letter words and returns the answer. It
// takes at most a second, so that a paused server holds nobody up.
func (s *Server) FourLetters(ctx context.Context, word string) (string, error) {
	deadline := time.Now().Add(time.Second)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// tail is the end of a file, for error messages.
func tail(path string, size int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-size):])
}
