package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

// The two ensembles of the story: alike, but for who looks after their placement.
const (
	guarded  = "zk"     // by the extender
	balanced = "spread" // by topologySpreadConstraints
)

// fatalShare is the fewest members of a zone whose loss loses the quorum.
const fatalShare = replicas - replicas/2

// placeSafely shows five voters, created at once, none of whose zones is fatal.
func placeSafely(ctx context.Context, s *stage) error {
	s.out.say("The namespace bears the label %s=enabled: Quorate protects the ensembles there.", deploy.GuardLabel)
	s.out.say("One Ensemble object beside a StatefulSet of %d ZooKeeper servers, created all at once:", replicas)
	if err := s.cluster.createEnsemble(ctx, ensembleOf(guarded)); err != nil {
		return err
	}
	if err := s.cluster.create(ctx, zooKeeper(guarded, replicas, unchanged)); err != nil {
		return err
	}
	st, err := s.awaitMembers(ctx, guarded, allServe)
	if err != nil {
		return err
	}
	if zone, n := st.worst(); n >= fatalShare {
		return fmt.Errorf("%s holds %d of %d voters", zone, n, replicas)
	}
	return nil
}

func allServe(st *state) bool { return st.serving == replicas && st.hasLeader }

// placeBySpread shows the same with what Kubernetes has.
func placeBySpread(ctx context.Context, s *stage) error {
	s.out.say("The same servers with topologySpreadConstraints over zones (maxSkew 1, DoNotSchedule):")
	if err := s.cluster.create(ctx, zooKeeper(balanced, replicas, spread(balanced))); err != nil {
		return err
	}
	st, err := s.awaitMembers(ctx, balanced, allServe)
	if err != nil {
		return err
	}
	if zone, n := st.worst(); n >= fatalShare {
		return fmt.Errorf("%s holds %d of %d: the constraints did not even hold at first", zone, n, replicas)
	}
	s.out.say("So far it is as good.")
	return nil
}

// loseZone shows what each does while a zone is away, and after it came back.
func loseZone(ctx context.Context, s *stage) error {
	const zone = "zone-c"
	s.out.say("The machines of %s are gone, and their pods with them.", zone)
	if err := s.cluster.loseZone(ctx, zone); err != nil {
		return err
	}
	s.out.say("The constraints see two zones and put the members there, without a word:")
	st, err := s.awaitMembers(ctx, balanced, allServe)
	if err != nil {
		return err
	}
	if name, n := st.worst(); n < fatalShare {
		return fmt.Errorf("%s holds %d of %d, and that is no majority", name, n, replicas)
	}
	s.out.say("Quorate lets no zone have a majority; who finds no safe place waits, and the rest serves:")
	if _, err := s.awaitMembers(ctx, guarded, func(st *state) bool {
		_, n := st.worst()
		return n < fatalShare && st.unplaced > 0 && st.members == replicas && st.serving == replicas-st.unplaced
	}); err != nil {
		return err
	}
	pod, err := s.cluster.waitingPod(ctx, guarded)
	if err != nil {
		return err
	}
	if err := s.describe(ctx, pod, "quorum"); err != nil {
		return err
	}
	s.out.say("%s comes back. Who waited goes there:", zone)
	if err := s.cluster.recoverZone(ctx, zone); err != nil {
		return err
	}
	if _, err := s.awaitMembers(ctx, guarded, func(st *state) bool {
		_, n := st.worst()
		return n < fatalShare && allServe(st)
	}); err != nil {
		return err
	}
	s.out.say("Nothing moves the others back, so that a zone keeps its majority:")
	_, err = s.awaitMembers(ctx, balanced, func(st *state) bool {
		_, n := st.worst()
		return n >= fatalShare && allServe(st)
	})
	return err
}

// loseMajority shows what that is worth: the zone with the majority is lost next.
func loseMajority(ctx context.Context, s *stage) error {
	st, err := s.cluster.look(ctx, balanced)
	if err != nil {
		return err
	}
	zone, n := st.worst()
	s.out.say("Now %s loses power; it holds %d of the %d that were spread.", zone, n, replicas)
	s.cluster.runner.Lose(hostNames(zone)...)
	if err := s.cluster.LoseNodes(ctx, hostNames(zone)...); err != nil {
		return err
	}
	if _, err := s.awaitMembers(ctx, balanced, func(st *state) bool { return st.serving == 0 }); err != nil {
		return err
	}
	s.out.say("Its ensemble is down until the zone is back. The other one goes on:")
	if _, err := s.awaitMembers(ctx, guarded, func(st *state) bool { return st.serving > replicas/2 && st.hasLeader }); err != nil {
		return err
	}
	s.cluster.runner.Recover(hostNames(zone)...)
	if err := s.cluster.RecoverNodes(ctx, hostNames(zone)...); err != nil {
		return err
	}
	if err := s.cluster.remove(ctx, balanced); err != nil {
		return err
	}
	s.out.say("%s has power again.", zone)
	_, err = s.awaitMembers(ctx, guarded, allServe)
	return err
}

// askTheImpossible shows what a user is told where no placement is safe.
func askTheImpossible(ctx context.Context, s *stage) error {
	const name = "pair"
	s.out.say("The same ensemble may only use two zones. One of them must hold a majority, so it can't be safe:")
	demand := ensembleOf(name, v1alpha1.TopologyLevel{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: v1alpha1.DoNotSchedule})
	if err := s.cluster.createEnsemble(ctx, demand); err != nil {
		return err
	}
	if err := s.cluster.create(ctx, zooKeeper(name, replicas, twoZones)); err != nil {
		return err
	}
	if _, err := s.awaitMembers(ctx, name, func(st *state) bool {
		return st.unplaced == 1 && st.serving == replicas-1 && st.hasLeader
	}); err != nil {
		return err
	}
	pod, err := s.cluster.waitingPod(ctx, name)
	if err != nil {
		return err
	}
	if err := s.describe(ctx, pod, "need at least 3 zones"); err != nil {
		return err
	}
	return s.cluster.remove(ctx, name)
}

// describe quotes what kubectl describe pod ends with, once it says want.
func (s *stage) describe(ctx context.Context, pod, want string) error {
	var events string
	err := lab.Await(ctx, time.Minute, "the message of "+pod, func(ctx context.Context) error {
		text, err := s.cluster.Kubectl(ctx, "describe", "pod", pod)
		if err != nil {
			return err
		}
		_, events, _ = strings.Cut(text, "\nEvents:\n")
		if !strings.Contains(events, want) {
			return errors.New("its events don't say yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.out.say("What the user reads, kubectl describe pod %s:", pod)
	lines := strings.Split(strings.TrimSpace(events), "\n")
	s.out.quote(wrapped(lines[len(lines)-1], 100))
	return nil
}

// waitingPod is one without a node.
func (c *cluster) waitingPod(ctx context.Context, app string) (string, error) {
	pods, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		if pod.Spec.NodeName == "" {
			return pod.Name, nil
		}
	}
	return "", fmt.Errorf("no pod of %s waits", app)
}

// loseZone takes a zone's machines away, as a cloud does: nodes and pods go.
func (c *cluster) loseZone(ctx context.Context, zone string) error {
	c.runner.Lose(hostNames(zone)...)
	return c.DeleteNodes(ctx, hostNames(zone)...)
}

func (c *cluster) recoverZone(ctx context.Context, zone string) error {
	c.runner.Recover(hostNames(zone)...)
	return c.CreateNodes(ctx, lab.Hosts(hostsPerZone, zone)...)
}

func hostNames(zone string) []string {
	var names []string
	for _, n := range lab.Hosts(hostsPerZone, zone) {
		names = append(names, n.Name)
	}
	return names
}
