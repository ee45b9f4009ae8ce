package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// PeerLink is the only path on which one server reaches another's peer and election
// ports; nil unless the ensemble was configured with PeerLinks.
func (e *Ensemble) PeerLink(from, to int) *Link { return e.links[[2]int{from, to}] }

// PeerLinks are all links from and to one server.
func (e *Ensemble) PeerLinks(id int) []*Link {
	var links []*Link
	for ends, link := range e.links {
		if ends[0] == id || ends[1] == id {
			links = append(links, link)
		}
	}
	return links
}

// linkPeers puts a link between every two servers, on addresses of our own subnet.
func (e *Ensemble) linkPeers(ctx context.Context, members []ZooKeeperMember) error {
	if len(members) > 12 {
		return fmt.Errorf("link %d ZooKeeper servers: no more than 12 of them can be linked", len(members))
	}
	addrs := map[[2]int]string{}
	for _, from := range members {
		for _, to := range members {
			addrs[[2]int{from.ID, to.ID}] = e.subnet.Addr(101 + len(addrs))
		}
	}
	for _, from := range members {
		for _, to := range members {
			if from.ID == to.ID {
				continue
			}
			there, back := addrs[[2]int{from.ID, to.ID}], addrs[[2]int{to.ID, from.ID}]
			if err := e.linkPeer(ctx, from.withDefaults(), to.withDefaults(), there, back); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkPeer makes the link from one server to another, at an address, when the way
// back is another.
func (e *Ensemble) linkPeer(ctx context.Context, from, to ZooKeeperMember, there, back string) error {
	link := &Link{}
	e.links[[2]int{from.ID, to.ID}] = link
	for port, callback := range map[int]string{to.PeerPort: "", to.ElectionPort: hostPort(back, from.ElectionPort)} {
		r, err := newRelay(ctx, hostPort(there, 0), hostPort(to.Host, port), callback)
		if err != nil {
			return err
		}
		e.relays = append(e.relays, r)
		if err := link.add(ctx, hostPort(there, port), r.addr()); err != nil {
			return err
		}
	}
	return nil
}

// ClientLinks is how one client reaches an ensemble: a link of its own to every
// server.
type ClientLinks struct {
	subnet  *Subnet
	links   []*Link
	connect string
}

// LinkClient makes a client's links to the servers of an ensemble.
func LinkClient(ctx context.Context, e *Ensemble) (*ClientLinks, error) {
	subnet, err := ClaimSubnet()
	if err != nil {
		return nil, err
	}
	c := &ClientLinks{subnet: subnet}
	var addrs []string
	for i, s := range e.Servers() {
		link, err := NewLink(ctx, subnet.Addr(i+1), s.Addr())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("link client to ZooKeeper server %d: %w", s.ID(), err), c.Close())
		}
		c.links = append(c.links, link)
		addrs = append(addrs, link.Addr())
	}
	c.connect = strings.Join(addrs, ",")
	return c, nil
}

// Connect is the connection string that goes through the links.
func (c *ClientLinks) Connect() string { return c.connect }

// Links are the links, in the order of the ensemble's servers.
func (c *ClientLinks) Links() []*Link { return c.links }

// All does the same to every link, such as (*Link).Cut.
func (c *ClientLinks) All(do func(*Link) error) error {
	var errs []error
	for _, l := range c.links {
		errs = append(errs, do(l))
	}
	return errors.Join(errs...)
}

// Close ends the links.
func (c *ClientLinks) Close() error {
	return errors.Join(c.All((*Link).Close), c.subnet.Close())
}
