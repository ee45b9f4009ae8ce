package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// configs are the distinct configurations that the leader and those that are up
// with it run by. More than one is a change under way: a quorum of each is needed.
func (v *View) configs() []Config {
	var full, votersOnly []Config
	seen := map[string]bool{}
	for i := range v.Members {
		c := v.Members[i].Answer.Config
		if v.Members[i].Health != Synced || c == nil {
			continue
		}
		v.Changing = v.Changing || c.Joint
		switch key := c.key(); {
		case seen[key]:
		case c.VotersOnly:
			votersOnly = append(votersOnly, *c)
		default:
			full = append(full, *c)
		}
		seen[c.key()] = true
	}
	for _, c := range votersOnly {
		if !slices.ContainsFunc(full, func(f Config) bool { return f.electorate() == c.electorate() }) {
			full = append(full, c)
		}
	}
	v.Changing = v.Changing || len(full) > 1
	return full
}

// voters is how many there are.
func (c *Config) voters() int {
	n := 0
	for i := range c.Members {
		if c.Members[i].Votes {
			n++
		}
	}
	return n
}

// electorate names the voters, whatever their weights.
func (c *Config) electorate() string {
	var ids []string
	for i := range c.Members {
		if c.Members[i].Votes {
			ids = append(ids, c.Members[i].ServerID)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, ",")
}

// key is equal for configurations that count alike.
func (c *Config) key() string {
	lines := make([]string, len(c.Members))
	for i, m := range c.Members {
		lines[i] = fmt.Sprintf("%q %t %d %q", m.ServerID, m.Votes, m.Weight, m.Group)
	}
	slices.Sort(lines)
	return fmt.Sprint(c.VotersOnly, c.Oracle, lines)
}

// live puts the configurations that were read in force.
func (v *View) live(configs []Config, r Rules) {
	v.Live = true
	numbers := v.number(configs)
	systems := make([]quorum.System, 0, len(configs))
	for i := range configs {
		s, err := v.system(&configs[i], numbers, r.Quorum)
		if err != nil {
			v.Reason = fmt.Sprintf("the configuration that was read makes no sense: %v", err)
			v.doubt(v.Reason)
			return
		}
		systems = append(systems, s)
	}
	v.System = quorum.Joint(systems...)
	for i := range v.Members {
		v.vote(i, numbers)
	}
	if v.Changing && len(configs) == 1 {
		v.Reason = "the membership is being changed, to what was not told"
	}
}

// number gives every server of the configurations its number: that of the member
// it is, or one of its own, above them.
func (v *View) number(configs []Config) map[string]int {
	numbers := map[string]int{}
	for i, m := range slices.Backward(v.Members) { // of twins, the first
		if id := m.ServerID; id != "" {
			numbers[id] = i
		}
	}
	add := func(votes bool) {
		for i := range configs {
			for _, m := range configs[i].Members {
				if _, ok := numbers[m.ServerID]; ok || m.Votes != votes {
					continue
				}
				numbers[m.ServerID] = len(v.Members) + len(v.Strangers)
				v.Strangers = append(v.Strangers, m.ServerID)
			}
		}
	}
	add(true)
	voting := len(v.Strangers)
	add(false) // observers have weight: their number is needed, but they don't vote
	v.Strangers = v.Strangers[:voting:voting]
	return numbers
}

// system of one configuration.
func (v *View) system(c *Config, numbers map[string]int, declared *v1alpha1.QuorumSpec) (quorum.System, error) {
	members := make([]quorum.Member, len(c.Members))
	var voters quorum.Set
	plain := true
	for i, m := range c.Members {
		n := numbers[m.ServerID]
		if n >= quorum.MaxVoters {
			return quorum.System{}, fmt.Errorf("it has more than %d servers", quorum.MaxVoters)
		}
		members[i] = quorum.Member{Server: n, Group: m.Group, Weight: m.Weight, Observer: !m.Votes}
		if c.VotersOnly {
			members[i].Weight, members[i].Group = v.declaredVote(n, m.Host, declared)
		}
		if m.Votes {
			voters = voters.With(n)
		}
		plain = plain && members[i].Group == "" && members[i].Weight == 1
	}
	switch {
	case voters == 0:
		return quorum.System{}, fmt.Errorf("it has no voters")
	case voters.Len() == 2 && (c.Oracle || c.VotersOnly && declared != nil && declared.Oracle):
		return quorum.Oracle(voters, false)
	default:
		return system(members, plain)
	}
}

// system checks what Majority does not: that no server is listed twice.
func system(members []quorum.Member, plain bool) (quorum.System, error) {
	s, err := quorum.Hierarchical(members)
	if err != nil || !plain {
		return s, err
	}
	return quorum.Majority(s.Voters()), nil
}

// declaredVote is the weight and group that spec.quorum gives the member.
func (v *View) declaredVote(number int, host string, declared *v1alpha1.QuorumSpec) (uint64, string) {
	name := firstLabel(host)
	if number < len(v.Members) {
		name = v.Members[number].Name
	}
	if declared != nil {
		for _, m := range declared.Members {
			if m.Name == name {
				return weight(m.Weight), m.Group
			}
		}
	}
	return 1, ""
}

func weight(w *int64) uint64 {
	if w == nil || *w < 0 {
		return 1
	}
	return uint64(*w)
}

// vote says whether member i votes, and takes its health if its report contradicts
// that.
func (v *View) vote(i int, numbers map[string]int) {
	m := &v.Members[i]
	n, known := numbers[m.ServerID]
	m.Votes = m.ServerID != "" && known && v.Voters().Has(n)
	switch serves := m.Health == Synced; {
	case m.ServerID == "" && serves && m.Role != Observer && m.Role != Learner:
		m.Health, m.Reason = Unseen, "it serves, but which server of the configuration it is was not told"
		m.Votes = len(v.Strangers) > 0
	case m.ServerID == "":
		m.Votes = len(v.Strangers) > 0 && !m.Answer.Target.Observer
	case m.Votes && serves && (m.Role == Observer || m.Role == Learner):
		m.Health, m.Reason = NotSynced, fmt.Sprintf("it is a voter of the configuration, but runs as %s", strings.ToLower(string(m.Role)))
	}
}

// declared puts the declared number of voters in force, where no configuration was
// read. All members vote, but for those that are observers by their labels or by
// their own word.
func (v *View) declared(r Rules) {
	members := make([]quorum.Member, 0, len(v.Members))
	plain := true
	for i := range v.Members {
		m := &v.Members[i]
		m.Votes = !m.Answer.Target.Observer && m.Role != Observer && m.Role != Learner
		if !m.Votes {
			continue
		}
		w, group := v.declaredVote(i, "", r.Quorum)
		plain = plain && w == 1 && group == ""
		members = append(members, quorum.Member{Server: i, Weight: w, Group: group})
	}
	switch {
	case r.Voters <= 0:
		v.Reason = "no configuration was read, and no number of voters is declared"
		return
	case len(members) > r.Voters && !r.Leaderless:
		v.Reason = fmt.Sprintf("no configuration was read; %d members, but %d voters are declared: which of them vote is not known", len(members), r.Voters)
		return
	}
	for n := 1; len(members) < r.Voters; n++ {
		number := len(v.Members) + len(v.Strangers)
		if number >= quorum.MaxVoters {
			v.Reason = fmt.Sprintf("%d voters are more than can be told apart", r.Voters)
			return
		}
		v.Strangers = append(v.Strangers, fmt.Sprintf("absent-%d", n))
		members = append(members, quorum.Member{Server: number, Weight: 1})
	}
	s, err := system(members, plain)
	if err != nil {
		v.Reason = fmt.Sprintf("the declared voters make no quorum: %v", err)
		return
	}
	v.System = s
}
