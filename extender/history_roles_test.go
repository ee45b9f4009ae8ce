package extender

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

func names(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("zk-%d", i))
	}
	return list
}

// electorates draws how votes are counted: one each, or by weights, zeros among them,
// and groups.
func (h *history) electorates() {
	if !h.chance(30) {
		return
	}
	h.truth.quorum = &v1alpha1.QuorumSpec{}
	grouped := h.chance(50)
	for i, name := range names(0, 7) {
		m := v1alpha1.QuorumMember{Name: name, Weight: new([]int64{1, 1, 1, 2, 0}[h.choose(5)])}
		if grouped {
			m.Group = fmt.Sprint("g", i%3)
		}
		h.note("%s votes with %d in group %q", name, *m.Weight, m.Group)
		h.truth.quorum.Members = append(h.truth.quorum.Members, m)
	}
}

// roles is a change of who votes.
func (h *history) roles() {
	switch x := h.choose(10); {
	case x < 2:
		h.observe()
		return
	case x < 6 && h.truth.live != nil:
		h.promote()
	default:
		h.elect()
	}
	if l := h.truth.live; l == nil {
		h.note("nobody knows the live configuration")
	} else {
		h.note("live configuration %v, maybe %v", l.voters, l.may)
	}
}

// elect is a live configuration of some members, which the StatefulSet may have or not,
// or one that nobody knows.
func (h *history) elect() {
	h.truth.live = nil
	if n := []int{0, 1, 3, 3, 4, 5}[h.choose(6)]; n > 0 {
		first := h.choose(8 - n)
		h.truth.live = liveConfig(names(first, first+n), h.told())
	}
}

// told is for which voters the status tells that they are: for all that are to be
// observers, since nobody would take them for voters otherwise.
func (h *history) told() func(name string) bool {
	all := h.chance(50)
	return func(name string) bool { return all || h.truth.observer[name] }
}

// promote takes the next member into the live configuration, and another one joins as
// an observer, or waits as a follower.
func (h *history) promote() {
	was := h.truth.live.voters
	outside := slices.DeleteFunc(names(0, 7), func(name string) bool {
		return slices.Contains(was, name) || h.truth.observer[name]
	})
	if len(outside) == 0 {
		return
	}
	told := h.told()
	l := liveConfig(append(slices.Clone(was), outside[0]), told)
	h.truth.live = l
	if len(outside) == 1 {
		return
	}
	role := []string{"Observer", "Follower"}[h.choose(2)]
	l.show(outside[1], role, false)
	if untold := func(name string) bool { return !told(name) }; role == "Follower" && slices.ContainsFunc(l.voters, untold) {
		l.may = append(slices.Clone(l.voters), outside[1])
	}
}

// observe makes a member one that never votes, by spec.observers, or one that does. If
// it votes, it does so until there is another configuration.
func (h *history) observe() {
	name := fmt.Sprintf("zk-%d", 3+h.choose(4))
	h.truth.observer[name] = !h.truth.observer[name]
	h.truth.edition++
	h.note("%s observes: %v", name, h.truth.observer[name])
	if l := h.truth.live; l != nil {
		h.truth.live = liveConfig(l.voters, h.told())
	}
}
