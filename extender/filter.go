package extender

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/ensemble/quorum"
)

// Outcome is what became of a question. The zero value places nothing.
type Outcome uint8

// The outcomes. Those up to Free refuse; the temporary ones end the scheduling
// attempt with an error, so that the pod is tried again soon.
const (
	Impossible Outcome = iota // no node given is safe, and waiting alone won't help
	Unknown                   // too little is known yet; temporary
	Held                      // every safe domain is promised to siblings; temporary
	Yielding                  // it waits until what it gave up can't land any more; temporary
	Outside                   // the safe domains lie outside the nodes given; temporary
	Free                      // nothing to judge: it counts nowhere, or cannot be blocked
	Placed                    // it may go to Nodes, and counts in Place from now on
)

// String is the outcome as a label of metrics.
func (o Outcome) String() string {
	return [...]string{"impossible", "unknown", "held", "yielding", "outside", "free", "placed"}[o]
}

// Temporary reports whether the same question may soon have another answer, by
// itself.
func (o Outcome) Temporary() bool { return o >= Unknown && o <= Outside }

// Answer is where a pod may go. The zero value refuses every node.
type Answer struct {
	Outcome Outcome
	// Nodes of those given that the pod may go to, in the order given.
	Nodes []string
	// Refused is why it may not go to the others: every node given is in Nodes or here.
	Refused []Refusal
	// Message says in words why a temporary answer is one.
	Message string
	// Place is where the pod may land if Nodes are answered. It must count there
	// before they are.
	Place Place
}

// Refusal is the nodes that are refused for one reason.
type Refusal struct {
	Cause  Cause
	Reason string // in words
	Nodes  []string
}

// Cause is what kind of reason nodes are refused for.
type Cause uint8

// The causes.
const (
	Fatal      Cause = iota // the domain would hold voters that the quorum can't do without
	Promised                // so it would by what siblings were promised
	Unlabelled              // its domain is not known
	Unseen                  // the node is not known, yet
	Elsewhere               // it is as safe, and another one was chosen
	Orphaned                // no Ensemble selects the pod
)

// String is the cause as a label of metrics, in the words of outcomes.
func (c Cause) String() string {
	return [...]string{"fatal", "held", "unlabelled", "unknown", "elsewhere", "orphan"}[c]
}

// Reasons is why nodes are refused, by node.
func (a *Answer) Reasons() map[string]string {
	reasons := map[string]string{}
	for _, r := range a.Refused {
		for _, n := range r.Nodes {
			reasons[n] = r.Reason
		}
	}
	return reasons
}

// Candidate is the pod to be placed.
type Candidate struct {
	// Member is its number in the ensemble.
	Member int
	// Holds is where it may land by the last answer; nil if there is none.
	Holds Place
	// Stay bars it from any domain but those that it holds: it may still land in
	// others, and a sibling waits for one.
	Stay bool
	// Sampled says that there may be more feasible nodes than were given.
	Sampled bool
}

// Filter is the rule of placement: of the nodes given, those where the pod may
// land without any hard domain coming to hold voters that the quorum can't do
// without, whoever of its siblings lands wherever they were told they may.
//
// It keeps what the pod holds while that is safe. Otherwise it chooses: one domain
// of every maximal hard level, that with the fewest voters, then that with the most
// nodes; where hosts are the coarsest level, as many of them as leave every unbound
// sibling its share.
func Filter(nodes Nodes, e *membership.Ensemble, c Candidate, given []string, claims Claims) Answer {
	q := &question{e: e, c: c, nodes: nodes, judgements: judging(e, c.Member)}
	if len(q.judgements) == 0 {
		return q.free(given)
	}
	q.o = occupied(nodes, e, c.Member, claims)
	q.verdicts = make([]map[membership.Domain]verdict, len(e.Levels))
	q.sort(given)
	q.judge()
	return q.answer(given)
}

// judging are the judgements that the member belongs to and that can be met at
// all: with one or two voters no placement survives a loss.
func judging(e *membership.Ensemble, member int) []*membership.Judgement {
	var js []*membership.Judgement
	for i := range e.Judgements {
		if j := &e.Judgements[i]; j.Enforced() && j.Counts.Has(member) {
			js = append(js, j)
		}
	}
	return js
}

// find returns the number of the pod in the ensemble, -1 if it is not seen.
func find(e *membership.Ensemble, uid types.UID) int {
	return slices.IndexFunc(e.Members, func(m membership.Member) bool { return m.UID == uid && uid != "" })
}

// voters of the judgement among the members.
func voters(j *membership.Judgement, s quorum.Set) int { return (s & j.Counts).Len() }
