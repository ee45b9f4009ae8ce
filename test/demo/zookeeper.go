package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/test/lab"
)

// quorumAlone shows what all the rest is about on ZooKeeper alone, while the control
// plane is being built if it must be: two of five servers may go, a third may not.
func quorumAlone(ctx context.Context, s *stage) error {
	building := make(chan error, 1)
	go func() { _, err := s.controlPlane(ctx); building <- err }()
	err := loseServers(ctx, s)
	if err == nil {
		s.out.say("The same arithmetic decides all that follows.")
	}
	return errors.Join(err, <-building)
}

func loseServers(ctx context.Context, s *stage) error {
	s.out.say("Starting five ZooKeeper servers, each a process of its own.")
	began := time.Now()
	ensemble, err := lab.StartZooKeeper(ctx, lab.ZooKeeperConfig{Voters: 5})
	if err != nil {
		return err
	}
	defer ensemble.Close()
	if err := s.awaitServers(ctx, ensemble, 0); err != nil {
		return err
	}
	s.out.say("They serve after %s. Now the leader is killed, and one more.", time.Since(began).Round(100*time.Millisecond))
	leader, err := ensemble.Leader(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(leader.Kill(), anotherThan(ensemble, leader).Kill()); err != nil {
		return err
	}
	if err := s.awaitServers(ctx, ensemble, 2); err != nil {
		return err
	}
	s.out.say("Three of five elected another leader. A third loss leaves two, and nobody to serve:")
	leader, err = ensemble.Leader(ctx)
	if err != nil {
		return err
	}
	if err := anotherThan(ensemble, leader).Kill(); err != nil {
		return err
	}
	return s.awaitServers(ctx, ensemble, 3)
}

func anotherThan(e *lab.Ensemble, leader *lab.Server) *lab.Server {
	for _, s := range e.Servers() {
		if s != leader && s.Running() {
			return s
		}
	}
	return leader
}

// awaitServers draws the ensemble until it is as the arithmetic says that it must
// be with so many servers killed: all others serve, or none does.
func (s *stage) awaitServers(ctx context.Context, e *lab.Ensemble, killed int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("a minute has passed"))
	defer cancel()
	n := len(e.Servers())
	alive := quorum.Majority(quorum.First(n)).Quorum(quorum.First(n - killed))
	return s.out.until(ctx, func(ctx context.Context) (string, bool) {
		p, serving := serversPicture(ctx, e)
		verdict := bad.Render("no quorum: nobody serves")
		if serving > 0 {
			verdict = good.Render(fmt.Sprintf("%d serve", serving))
		}
		p.caption = fmt.Sprintf("%d voters, quorum %d: %s", n, n/2+1, verdict)
		if alive {
			return p.render(), serving == n-killed
		}
		return p.render(), serving == 0
	})
}

func serversPicture(ctx context.Context, e *lab.Ensemble) (p picture, serving int) {
	box := zone{name: "this machine"}
	for _, server := range e.Servers() {
		v := voter{name: fmt.Sprintf("server %d", server.ID()), health: gone}
		if server.Running() {
			v.health = unseen
			if mode, err := server.Mode(ctx); err == nil && mode != "" {
				v.health, v.role = synced, mode
				serving++
			}
		}
		box.hosts = append(box.hosts, host{name: server.Addr(), voters: []voter{v}})
	}
	return picture{zones: []zone{box}}, serving
}
