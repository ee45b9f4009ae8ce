package extender

import (
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/quorate/quorate/ensemble/membership"
)

// Prioritize scores nodes from 0 to 10, in the order given: the more tolerance
// their domains are left with, the higher. Hard and preferred levels weigh the
// same; a preferred level is at its worst where the domain would become fatal.
// Scores only order what Filter admits: nothing here makes a node safe.
func Prioritize(nodes Nodes, e *membership.Ensemble, member int, given []string, claims Claims) []int64 {
	scores := make([]int64, len(given))
	q := &question{e: e, c: Candidate{Member: member}, nodes: nodes, judgements: judging(e, member)}
	if len(q.judgements) == 0 || len(e.Levels) == 0 {
		return scores
	}
	q.o = occupied(nodes, e, member, claims)
	known := make([]map[membership.Domain]int64, len(e.Levels))
	for i, n := range given {
		var sum int64
		for l := range e.Levels {
			sum += q.tolerance(known, l, n)
		}
		scores[i] = sum / int64(len(e.Levels))
	}
	return scores
}

// tolerance is 10 where nobody else is in the node's domain at the level, 0 where
// the domain would be fatal, or isn't known.
func (q *question) tolerance(known []map[membership.Domain]int64, l int, node string) int64 {
	d, ok := q.nodes.Domain(node, q.e.Levels[l])
	if !ok {
		return extenderv1.MinExtenderPriority
	}
	if t, ok := known[l][d]; ok {
		return t
	}
	t := extenderv1.MaxExtenderPriority
	_, may := q.o.at(l, d, node)
	for _, j := range q.judgements {
		if !j.Survives(may.With(q.c.Member)) {
			t = extenderv1.MinExtenderPriority
			break
		}
		t = min(t, extenderv1.MaxExtenderPriority-extenderv1.MaxExtenderPriority*int64(voters(j, may))/int64(j.Voters))
	}
	if known[l] == nil {
		known[l] = map[membership.Domain]int64{}
	}
	known[l][d] = t
	return t
}
