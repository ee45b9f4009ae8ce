package membership

import (
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// LiveConfig tells the configurations that ensembles run by. It does no I/O and
// returns at once: it is asked whenever an ensemble changes.
type LiveConfig interface {
	// Live returns the configuration in force, as last read; nil if none ever was.
	Live(e *v1alpha1.Ensemble) *Config
}

// Config is the configuration of an ensemble.
type Config struct {
	// Voters of the configuration in force; of the old one while it changes.
	Voters []Voter
	// Next are the voters of the new configuration while it changes, else nil.
	Next []Voter
	// Maybe are pods of which some may be the voters that name no pod.
	Maybe []string
	// Oracle lets one of exactly two voters go on alone.
	Oracle bool
}

// Voter is one voter of a configuration.
type Voter struct {
	// Pod that it runs in, or empty: then it is no member that we know.
	Pod string
	// Weight of its vote; nil is 1.
	Weight *int64
	// Group that it votes in, or empty.
	Group string
}

// StatusConfig reads the live configuration from the status of the Ensemble, where
// the status controller left it; weights and groups are those of spec.quorum.
type StatusConfig struct{}

// Live implements LiveConfig.
func (StatusConfig) Live(e *v1alpha1.Ensemble) *Config {
	if e.Status.Voters == nil || *e.Status.Voters <= 0 {
		return nil
	}
	voters := int(*e.Status.Voters)
	c := &Config{}
	stated := statedVotes(e.Spec.Quorum)
	for _, m := range e.Status.Members {
		switch {
		case m.Votes:
			c.Voters = append(c.Voters, stated.voter(m.Name))
		case m.Role != "Observer" && m.Role != "Learner":
			// A follower may be none that votes: so ZooKeeper calls one that waits to be
			// taken into the configuration.
			c.Maybe = append(c.Maybe, m.Name)
		}
	}
	for len(c.Voters) < voters {
		c.Voters = append(c.Voters, Voter{})
	}
	c.Oracle = e.Spec.Quorum != nil && e.Spec.Quorum.Oracle
	return c
}

// votes are the weights and groups that the user stated, by pod.
type votes map[string]v1alpha1.QuorumMember

func statedVotes(q *v1alpha1.QuorumSpec) votes {
	if q == nil {
		return nil
	}
	v := make(votes, len(q.Members))
	for _, m := range q.Members {
		v[m.Name] = m
	}
	return v
}

func (v votes) voter(pod string) Voter {
	m := v[pod]
	return Voter{Pod: pod, Weight: m.Weight, Group: m.Group}
}
