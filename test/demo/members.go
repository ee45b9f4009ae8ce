package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// state is what the cluster and the servers themselves say about one StatefulSet.
type state struct {
	picture   picture
	perZone   map[string]int // bound members
	alive     map[string]int // those of them that serve
	members   int
	unplaced  int
	serving   int
	hasLeader bool
}

// look asks the API server for pods and nodes, and each server what it is.
func (c *cluster) look(ctx context.Context, app string) (state, error) {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return state{}, err
	}
	pods, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return state{}, err
	}
	st := state{perZone: map[string]int{}, alive: map[string]int{}, members: len(pods.Items)}
	onNode := map[string][]voter{}
	zoneOf, lost := map[string]string{}, map[string]bool{}
	for _, n := range nodes.Items {
		zoneOf[n.Name], lost[n.Name] = n.Labels[corev1.LabelTopologyZone], !ready(&n)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		v := c.voter(ctx, pod, lost[pod.Spec.NodeName])
		if v.health == synced {
			st.serving++
			st.alive[zoneOf[pod.Spec.NodeName]]++
			st.hasLeader = st.hasLeader || v.role == "leader"
		}
		if pod.Spec.NodeName == "" {
			st.unplaced++
			st.picture.waiting = append(st.picture.waiting, v)
			continue
		}
		st.perZone[zoneOf[pod.Spec.NodeName]]++
		onNode[pod.Spec.NodeName] = append(onNode[pod.Spec.NodeName], v)
	}
	st.picture.zones = zonesOf(nodes.Items, onNode)
	return st, nil
}

func zonesOf(nodes []corev1.Node, onNode map[string][]voter) []zone {
	var drawn []zone
	for _, name := range zones {
		z := zone{name: name, lost: true}
		for _, n := range nodes {
			if n.Labels[corev1.LabelTopologyZone] == name {
				z.lost = z.lost && !ready(&n)
				z.hosts = append(z.hosts, host{name: n.Name, lost: n.Spec.Unschedulable, voters: onNode[n.Name]})
			}
		}
		drawn = append(drawn, z)
	}
	return drawn
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// voter is a member as it answers itself, not as somebody believes. lost says that
// its node is.
func (c *cluster) voter(ctx context.Context, pod *corev1.Pod, lost bool) voter {
	v := voter{name: pod.Name, health: waiting}
	if pod.Spec.NodeName == "" {
		return v
	}
	server, err := c.servers.Server(pod.Namespace, pod.Name)
	if err != nil {
		return v
	}
	if pod.DeletionTimestamp != nil {
		v.health = leaving
	}
	mode, err := server.Mode(ctx)
	switch {
	case lost:
		v.health = gone
	case err != nil && !errors.Is(err, syscall.ECONNREFUSED) && v.health != leaving:
		v.health = unseen // it is there, and does not serve
	case err == nil:
		v.role = mode
		if v.health != leaving {
			v.health = synced
		}
	}
	return v
}

// worst is the most members that one zone holds, and which.
func (st *state) worst() (name string, n int) {
	for _, z := range slices.Sorted(maps.Keys(st.perZone)) {
		if st.perZone[z] > n {
			name, n = z, st.perZone[z]
		}
	}
	return name, n
}

// split is the members per zone, as people write it: 2/2/1.
func (st *state) split() string {
	var parts []string
	for _, z := range zones {
		parts = append(parts, fmt.Sprint(st.perZone[z]))
	}
	return strings.Join(parts, "/")
}

// caption says what the picture means.
func (st *state) caption(app string) string {
	return fmt.Sprintf("%s: %s over the zones, %d of %d serve, quorum %d: %s",
		app, st.split(), st.serving, replicas, replicas/2+1, st.verdict())
}

func (st *state) verdict() string {
	const quorum = replicas/2 + 1
	name, n := st.worst()
	spare := true // also with those that are away already
	for _, alive := range st.alive {
		spare = spare && st.serving-alive >= quorum
	}
	switch {
	case st.serving == 0 && st.unplaced == 0 && st.members == replicas:
		return bad.Render("no quorum: nobody serves")
	case st.serving < quorum:
		return fair.Render("no quorum yet")
	case replicas-n < quorum:
		return bad.Render(fmt.Sprintf("losing %s loses the quorum", name))
	case !spare:
		return fair.Render("the quorum is there, with none to spare for a zone")
	}
	return good.Render("any zone may be lost")
}

// awaitMembers draws an ensemble until it is as holds says.
func (s *stage) awaitMembers(ctx context.Context, app string, holds func(*state) bool) (state, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("two minutes have passed"))
	defer cancel()
	var last state
	err := s.out.until(ctx, func(ctx context.Context) (string, bool) {
		st, err := s.cluster.look(ctx, app)
		if err != nil {
			return "  " + err.Error(), false
		}
		last = st
		st.picture.caption = st.caption(app)
		return st.picture.render(), holds(&st)
	})
	return last, err
}
