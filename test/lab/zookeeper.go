package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// patience with servers that start or elect.
const patience = 2 * time.Minute

// ZooKeeperConfig describes one ensemble.
type ZooKeeperConfig struct {
	// Dir holds a folder per server: data, configuration, log. Default: a temporary
	// one, removed by Close.
	Dir string
	// Members are the servers. Empty: Voters and Observers of them, numbered from 1,
	// on a loopback subnet claimed for this ensemble.
	Members []ZooKeeperMember
	// Voters is how many voters to make up when Members is empty. Default 3.
	Voters int
	// Observers is how many observers to make up when Members is empty.
	Observers int
	// TickTime is ZooKeeper's tick. Default 500 ms; sessions last 2 to 20 ticks.
	TickTime time.Duration
	// InitLimit and SyncLimit are in ticks. Default 20 and 10.
	InitLimit, SyncLimit int
	// Whitelist is 4lw.commands.whitelist. Default "*"; ZooKeeper's own is "srvr".
	Whitelist string
	// NoAdmin turns the AdminServer off.
	NoAdmin bool
	// ReadOnly lets a server without a quorum answer reads to clients that ask for that.
	ReadOnly bool
	// SuperPassword makes "super:PASSWORD" the digest credentials of the superuser.
	SuperPassword string
	// TLS adds a client port that speaks TLS. Nil: none.
	TLS *ZooKeeperTLS
	// PeerLinks puts a proxy between every two servers, see Ensemble.PeerLink.
	// Reconfiguration is off then.
	PeerLinks bool
	// Properties are further lines of zoo.cfg, and win over those above.
	Properties map[string]string
}

// ZooKeeperMember is one line of the server list. Zero ports mean the well-known
// ones: peers 2888, election 3888, client 2181, TLS client 2281, admin 8080.
type ZooKeeperMember struct {
	// ID is the server's number, from 1.
	ID int
	// Host is the address on which peers reach it.
	Host string
	// ClientHost is the address on which clients and probes reach it. Default: Host.
	ClientHost string
	// Observer marks a server that does not vote.
	Observer bool
	// Group and Weight make a hierarchical quorum when any member has a Group.
	Group, Weight int
	// Namespace is the network namespace it runs in. Empty: this process's own.
	Namespace string

	PeerPort, ElectionPort, ClientPort, SecurePort, AdminPort int
}

// ZooKeeperTLS says which PEM files the TLS client port uses.
type ZooKeeperTLS struct {
	KeyFile    string // the server's private key and certificate, one after the other
	TrustFile  string // certificates of the authorities whose clients are let in
	ClientAuth string // none, want or need. Default need
}

// Ensemble is a set of real ZooKeeper servers, each a JVM. Servers are started,
// killed and paused one by one; it is no more alive than they are.
type Ensemble struct {
	servers []*Server
	subnet  *Subnet
	links   map[[2]int]*Link
	relays  []*relay
	tempDir string
}

// StartZooKeeper starts all servers of an ensemble and waits until each of them
// serves. A machine without Java or ZooKeeper gets an error that says what to
// install.
func StartZooKeeper(ctx context.Context, c ZooKeeperConfig) (*Ensemble, error) {
	e, err := newEnsemble(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, s := range e.servers {
		if err := s.Start(ctx); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	if err := e.WaitServing(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func newEnsemble(ctx context.Context, c ZooKeeperConfig) (*Ensemble, error) {
	e := &Ensemble{links: map[[2]int]*Link{}}
	if err := e.place(ctx, &c); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	for _, m := range c.Members {
		s, err := NewZooKeeperServer(c, m.ID)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		s.through = e.links
		e.servers = append(e.servers, s)
	}
	return e, nil
}

// place gives the ensemble a folder and addresses where the caller gave none.
func (e *Ensemble) place(ctx context.Context, c *ZooKeeperConfig) error {
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "quorate-zookeeper-")
		if err != nil {
			return err
		}
		c.Dir, e.tempDir = dir, dir
	}
	if len(c.Members) == 0 || c.PeerLinks {
		subnet, err := ClaimSubnet()
		if err != nil {
			return err
		}
		e.subnet = subnet
	}
	if len(c.Members) == 0 {
		voters := c.Voters
		if voters == 0 {
			voters = 3
		}
		for id := 1; id <= voters+c.Observers; id++ {
			c.Members = append(c.Members, ZooKeeperMember{ID: id, Host: e.subnet.Addr(id), Observer: id > voters})
		}
	}
	if c.PeerLinks {
		return e.linkPeers(ctx, c.Members)
	}
	return nil
}

// Servers are all servers, in the order of the configuration.
func (e *Ensemble) Servers() []*Server { return e.servers }

// Server is the one with this number; nil when there is none.
func (e *Ensemble) Server(id int) *Server {
	for _, s := range e.servers {
		if s.member.ID == id {
			return s
		}
	}
	return nil
}

// Connect is a connection string of all servers' client ports.
func (e *Ensemble) Connect() string {
	addrs := make([]string, 0, len(e.servers))
	for _, s := range e.servers {
		addrs = append(addrs, s.Addr())
	}
	return strings.Join(addrs, ",")
}

// WaitServing waits until every server that was started and not stopped says that
// it leads, follows or observes. A paused one is waited for too.
func (e *Ensemble) WaitServing(ctx context.Context) error {
	for _, s := range e.servers {
		if !s.Running() {
			continue
		}
		if err := s.WaitServing(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Leader is the server that says it leads now. It asks all that run, and waits
// until one says so.
func (e *Ensemble) Leader(ctx context.Context) (*Server, error) {
	var leader *Server
	err := Await(ctx, patience, "a ZooKeeper leader", func(ctx context.Context) error {
		for _, s := range e.servers {
			if mode, err := s.Mode(ctx); err == nil && mode == "leader" {
				leader = s
				return nil
			}
		}
		return errors.New("no server says that it leads")
	})
	return leader, err
}

// Close kills all servers and removes what was made for them.
func (e *Ensemble) Close() error {
	var errs []error
	for _, s := range e.servers {
		errs = append(errs, s.Close())
	}
	for _, l := range e.links {
		errs = append(errs, l.Close())
	}
	for _, r := range e.relays {
		errs = append(errs, r.Close())
	}
	if e.subnet != nil {
		errs = append(errs, e.subnet.Close())
	}
	if e.tempDir != "" {
		errs = append(errs, os.RemoveAll(e.tempDir))
	}
	return errors.Join(errs...)
}

// withDefaults fills in what may be left out of a member.
func (m ZooKeeperMember) withDefaults() ZooKeeperMember {
	for _, f := range []struct {
		port  *int
		usual int
	}{
		{&m.PeerPort, 2888}, {&m.ElectionPort, 3888}, {&m.ClientPort, 2181}, {&m.SecurePort, 2281}, {&m.AdminPort, 8080},
	} {
		if *f.port == 0 {
			*f.port = f.usual
		}
	}
	if m.ClientHost == "" {
		m.ClientHost = m.Host
	}
	return m
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// serverDir is the folder of one server.
func (c ZooKeeperConfig) serverDir(id int) string {
	return filepath.Join(c.Dir, "server"+strconv.Itoa(id))
}
