package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
)

// Network is a small machine room: every server in a network namespace of its own,
// with one interface towards its peers and another towards clients, so that a
// server can be parted from its peers alone, or hear and not be heard. Lost packets
// are lost silently. The clients are this process and its children.
//
// It needs Linux, iproute2 and the right to make namespaces (root).
type Network struct {
	subnet *Subnet
	name   string
	size   int
}

// broken is a hardware address that nobody has: packets to it go nowhere.
const broken = "02:00:00:00:00:99"

// NewNetwork makes a network for servers numbered from 1, at most 60.
func NewNetwork(ctx context.Context, servers int) (*Network, error) {
	if servers < 1 || servers > 60 {
		return nil, fmt.Errorf("make network: %d servers, want 1 to 60", servers)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, errors.New("make network: the lab needs ip: apt-get install -y --no-install-recommends iproute2")
	}
	if err := sweepNetworks(ctx); err != nil {
		return nil, err
	}
	subnet, err := ClaimSubnet()
	if err != nil {
		return nil, err
	}
	n := networkOn(subnet, servers)
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make network (this takes root): %w", err), n.Close())
	}
	return n, nil
}

func networkOn(s *Subnet, servers int) *Network {
	return &Network{subnet: s, name: fmt.Sprintf("q%02x%02x", s.second, s.third), size: servers}
}

// sweepNetworks removes what labs have left behind that were killed: networks whose
// subnet nobody holds.
func sweepNetworks(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	sizes := map[[2]int]int{}
	for line := range strings.Lines(string(out)) {
		var second, third, id int
		if n, _ := fmt.Sscanf(line, "q%02x%02x-%d", &second, &third, &id); n == 3 {
			sizes[[2]int{second, third}] = max(id, sizes[[2]int{second, third}])
		}
	}
	for at, size := range sizes {
		subnet, err := claim(at[0], at[1])
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // its lab lives
		}
		if err != nil {
			return fmt.Errorf("claim the subnet of a dead network: %w", err)
		}
		// Of one that was half made, half is missing.
		_ = networkOn(subnet, size).Close()
	}
	return nil
}

func (n *Network) build(ctx context.Context) error {
	var host []string
	for _, side := range []string{"p", "c"} {
		host = append(host, "link add "+n.name+side+" type bridge", "link set "+n.name+side+" up")
	}
	host = append(host, fmt.Sprintf("addr add %s/25 dev %sc", n.ClientAddr(), n.name))
	for id := 1; id <= n.size; id++ {
		host = append(host, "netns add "+n.Namespace(id))
		for side, far := range map[string]string{"p": "peers", "c": "clients"} {
			near := n.port(side, id)
			host = append(host,
				fmt.Sprintf("link add %s type veth peer name %s netns %s", near, far, n.Namespace(id)),
				fmt.Sprintf("link set %s master %s%s up", near, n.name, side))
		}
	}
	if err := run(ctx, host); err != nil {
		return err
	}
	for id := 1; id <= n.size; id++ {
		if err := run(ctx, []string{
			"link set lo up", "link set peers up", "link set clients up",
			fmt.Sprintf("addr add %s/25 dev peers", n.peerAddr(id)),
			fmt.Sprintf("addr add %s/25 dev clients", n.serverAddr(id)),
		}, "-n", n.Namespace(id)); err != nil {
			return err
		}
	}
	return nil
}

// Members are voters for a ZooKeeperConfig, one in each namespace.
func (n *Network) Members() []ZooKeeperMember {
	members := make([]ZooKeeperMember, n.size)
	for i := range members {
		id := i + 1
		members[i] = ZooKeeperMember{ID: id, Host: n.peerAddr(id), ClientHost: n.serverAddr(id), Namespace: n.Namespace(id)}
	}
	return members
}

// Namespace is the name of a server's network namespace.
func (n *Network) Namespace(id int) string { return fmt.Sprintf("%s-%d", n.name, id) }

// ClientAddr is the address from which this process reaches the servers.
func (n *Network) ClientAddr() string { return n.addr(254) }

func (n *Network) peerAddr(id int) string   { return n.addr(id) }
func (n *Network) serverAddr(id int) string { return n.addr(128 + id) }
func (n *Network) addr(host int) string {
	return net.IPv4(10, byte(n.subnet.second), byte(n.subnet.third), byte(host)).String()
}
func (n *Network) port(side string, id int) string { return fmt.Sprintf("%s%s%d", n.name, side, id) }

// PartPeers parts a server from all its peers, and from no client.
func (n *Network) PartPeers(ctx context.Context, id int) error {
	return run(ctx, []string{"link set " + n.port("p", id) + " nomaster"})
}

// JoinPeers ends PartPeers.
func (n *Network) JoinPeers(ctx context.Context, id int) error {
	return run(ctx, []string{fmt.Sprintf("link set %s master %sp", n.port("p", id), n.name)})
}

// PartClients parts a server from all clients, and from no peer.
func (n *Network) PartClients(ctx context.Context, id int) error {
	return run(ctx, []string{"link set " + n.port("c", id) + " nomaster"})
}

// JoinClients ends PartClients.
func (n *Network) JoinClients(ctx context.Context, id int) error {
	return run(ctx, []string{fmt.Sprintf("link set %s master %sc", n.port("c", id), n.name)})
}

// Mute loses what one server sends to another; the other way works.
func (n *Network) Mute(ctx context.Context, from, to int) error {
	return run(ctx, []string{wrongNeighbour(n.peerAddr(to), "peers")}, "-n", n.Namespace(from))
}

// Unmute ends Mute.
func (n *Network) Unmute(ctx context.Context, from, to int) error {
	return run(ctx, []string{"neigh del " + n.peerAddr(to) + " dev peers"}, "-n", n.Namespace(from))
}

// MuteAnswers loses what a server sends to clients; what they send arrives.
func (n *Network) MuteAnswers(ctx context.Context, id int) error {
	return run(ctx, []string{wrongNeighbour(n.ClientAddr(), "clients")}, "-n", n.Namespace(id))
}

// UnmuteAnswers ends MuteAnswers.
func (n *Network) UnmuteAnswers(ctx context.Context, id int) error {
	return run(ctx, []string{"neigh del " + n.ClientAddr() + " dev clients"}, "-n", n.Namespace(id))
}

func wrongNeighbour(addr, device string) string {
	return fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", addr, broken, device)
}

// Close removes the namespaces and bridges. Processes in them keep running without
// a network: end them first.
func (n *Network) Close() error {
	ctx := context.Background()
	var errs []error
	for id := 1; id <= n.size; id++ {
		// A socket that still has something to say keeps its namespace, and this end.
		errs = append(errs, run(ctx, []string{"link del " + n.port("p", id)}), run(ctx, []string{"link del " + n.port("c", id)}),
			run(ctx, []string{"netns del " + n.Namespace(id)}))
	}
	errs = append(errs, run(ctx, []string{"link del " + n.name + "p"}), run(ctx, []string{"link del " + n.name + "c"}))
	return errors.Join(append(errs, n.subnet.Close())...)
}

// run has iproute2 obey some lines, up to the first that fails.
func run(ctx context.Context, lines []string, options ...string) error {
	cmd := exec.CommandContext(ctx, "ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
