package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// PeerLink is the path on which one server reaches another's peer and election
// ports; nil unless the ensemble was configured with PeerLinks.
//
// A server that is called on its election port may call back directly, so a cut
// peer link keeps data and pings from passing, not every vote. Where that matters,
// use a Network.
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
	host := 100
	for _, from := range members {
		for _, to := range members {
			if from.ID == to.ID {
				continue
			}
			if host++; host > 253 {
				return errors.New("link ZooKeeper servers: no more than 12 of them can be linked")
			}
			to = to.withDefaults()
			link, err := NewLink(ctx, e.subnet.Addr(host), hostPort(to.Host, to.PeerPort))
			if err != nil {
				return err
			}
			e.links[[2]int{from.ID, to.ID}] = link
			if err := link.add(ctx, e.subnet.Addr(host), hostPort(to.Host, to.ElectionPort)); err != nil {
				return err
			}
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
