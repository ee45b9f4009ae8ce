package status

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// ensemble is a spec with that many voters, and its pods zk-0 ...
func ensemble(voters, pods int) (*v1alpha1.Ensemble, []corev1.Pod) {
	e := &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Name: "zk", Namespace: "data", UID: "uid", Generation: 3},
		Spec: v1alpha1.EnsembleSpec{
			Selector: v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zk"}}, System: v1alpha1.ZooKeeper, Voters: new(int32(voters)),
		},
	}
	var all []corev1.Pod
	for i := range pods {
		all = append(all, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("zk-%d", i), Namespace: "data", UID: types.UID(fmt.Sprintf("pod-%d", i)), Labels: map[string]string{"app": "zk"}},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i)},
		})
	}
	return e, all
}

// view judges a word for each pod: leader, follower, observer, syncing or silent. The
// leader tells a configuration of all that are no observers, and of further servers.
func view(e *v1alpha1.Ensemble, pods []corev1.Pod, words string, absent ...string) probe.View {
	config := &probe.Config{}
	says := strings.Fields(words)
	for i, word := range says {
		config.Members = append(config.Members, probe.ConfigMember{ServerID: fmt.Sprint(i + 1), Votes: word != "observer", Weight: 1})
	}
	for _, id := range absent {
		config.Members = append(config.Members, probe.ConfigMember{ServerID: id, Votes: true, Weight: 1})
	}
	var answers []probe.Answer
	for i, t := range probe.Targets(e, pods) {
		a := probe.Answer{Target: t, Heard: says[i] != "silent", At: noon}
		if a.Heard {
			a.ServerID = fmt.Sprint(i + 1)
			a.Serving, a.Epoch = says[i] != "syncing", 5
		}
		switch says[i] {
		case "leader":
			a.Role, a.Config = probe.Leader, config
		case "follower", "syncing":
			a.Role, a.State = probe.Follower, "following - synchronization"
		case "observer":
			a.Role = probe.Observer
		}
		answers = append(answers, a)
	}
	return probe.Judge(answers, probe.Rules{Voters: int(ptr.Deref(e.Spec.Voters, 0))}, noon)
}

func numbers(s *v1alpha1.EnsembleStatus) string {
	n := func(p *int32) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	c := s.Conditions[0]
	return fmt.Sprintf("voters=%s quorum=%s synced=%s allowed=%s %s=%s %s", n(s.Voters), n(s.Quorum), n(s.Synced), n(s.DisruptionsAllowed), c.Type, c.Status, c.Reason)
}

func TestObserve(t *testing.T) {
	cases := map[string]struct {
		words  string
		absent []string
		before func(*v1alpha1.Ensemble, []corev1.Pod)
		want   string
	}{
		"all well": {words: "leader follower follower follower follower",
			want: "voters=5 quorum=3 synced=5 allowed=2 Quorate=True QuorumInSync"},
		"one resyncs": {words: "leader follower follower follower syncing",
			want: "voters=5 quorum=3 synced=4 allowed=1 Quorate=True QuorumInSync"},
		"a spare one is asked for": {words: "leader follower follower follower follower",
			before: func(e *v1alpha1.Ensemble, _ []corev1.Pod) { e.Spec.Disruption.Spare = 1 },
			want:   "voters=5 quorum=3 synced=5 allowed=1 Quorate=True QuorumInSync"},
		"one was granted to go, and is still there": {words: "leader follower follower follower follower",
			before: func(e *v1alpha1.Ensemble, _ []corev1.Pod) {
				e.Status.Grants = []v1alpha1.Grant{{PodUID: "pod-2", Name: "zk-2"}}
			},
			want: "voters=5 quorum=3 synced=5 allowed=1 Quorate=True QuorumInSync"},
		"one terminates": {words: "leader follower follower follower follower",
			before: func(_ *v1alpha1.Ensemble, pods []corev1.Pod) { pods[4].DeletionTimestamp = &metav1.Time{Time: noon} },
			want:   "voters=5 quorum=3 synced=5 allowed=1 Quorate=True QuorumInSync"},
		"observers don't count": {words: "leader follower follower observer",
			want: "voters=3 quorum=2 synced=3 allowed=1 Quorate=True QuorumInSync"},
		"exactly a quorum": {words: "leader follower follower syncing silent",
			want: "voters=5 quorum=3 synced=3 allowed=0 Quorate=True QuorumInSync"},
		"no leader, all heard": {words: "syncing syncing syncing",
			want: "voters=- quorum=- synced=- allowed=0 Quorate=False QuorumLost"},
		"nobody heard": {words: "silent silent silent",
			want: "voters=- quorum=- synced=- allowed=0 Quorate=Unknown Unknown"},
		"nobody heard, but it was known before": {words: "silent silent silent",
			before: func(e *v1alpha1.Ensemble, _ []corev1.Pod) {
				e.Status.Voters, e.Status.Quorum, e.Status.Synced = ptr.To[int32](5), ptr.To[int32](3), ptr.To[int32](5)
			},
			want: "voters=5 quorum=3 synced=- allowed=0 Quorate=Unknown Unknown"},
		"voters elsewhere": {words: "leader follower", absent: []string{"8", "9"},
			want: "voters=4 quorum=3 synced=2 allowed=0 Quorate=Unknown Unknown"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := len(strings.Fields(c.words))
			e, pods := ensemble(n, n)
			if c.before != nil {
				c.before(e, pods)
			}
			v := view(e, pods, c.words, c.absent...)
			s := Observe(e, pods, &v)
			if diff := cmp.Diff(c.want, numbers(&s)); diff != "" {
				t.Errorf("-want +got:\n%s%s", diff, s.Conditions[0].Message)
			}
			if s.ObservedGeneration != 3 || len(s.Grants) != 0 || s.Guard != nil || s.Topology != nil {
				t.Errorf("fields of others are touched: %+v", s)
			}
		})
	}
}

// An ensemble that can spare nobody at its best is told so at once, not at its first
// drain.
func TestWhoCanSpareNobodyIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		words, want string
		spare       int32
	}{
		"two":            {"leader follower", "it can lose none; add voters", 0},
		"one":            {"leader", "it can lose none; add voters", 0},
		"three":          {"leader follower follower", "", 0},
		"three, spare 1": {"leader follower follower", "it can lose 1, and spec.disruption.spare is 1; lower that", 1},
		"five, spare 1":  {"leader follower follower follower follower", "", 1},
		"five, one away": {"leader follower follower follower silent", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := len(strings.Fields(c.words))
			e, pods := ensemble(n, n)
			e.Spec.Disruption.Spare = c.spare
			v := view(e, pods, c.words)
			got := Quorate(e, &v)
			if told := strings.Contains(got.Message, "none of them may be evicted"); got.Status != metav1.ConditionTrue || told != (c.want != "") || !strings.Contains(got.Message, c.want) {
				t.Errorf("got %s %q, want it to say %q", got.Status, got.Message, c.want)
			}
		})
	}
}

// A voter whose pod is gone stays, so that placement still counts it where it was
// known; one that left the configuration does not.
func TestObserveKeepsAbsentVoters(t *testing.T) {
	e, pods := ensemble(3, 2)
	e.Status.Members = []v1alpha1.MemberStatus{
		{Name: "zk-2", ServerID: "3", Role: "Leader", Votes: true, Health: "Synced", Node: "node-2"},
		{Name: "zk-7", ServerID: "8", Role: "Follower", Votes: true, Health: "Synced"},
	}
	v := view(e, pods, "leader follower", "3")
	s := Observe(e, pods, &v)
	want := []v1alpha1.MemberStatus{
		{Name: "zk-0", Node: "node-0", ServerID: "1", Role: "Leader", Votes: true, Health: "Synced"},
		{Name: "zk-1", Node: "node-1", ServerID: "2", Role: "Follower", Votes: true, Health: "Synced"},
		{Name: "zk-2", ServerID: "3", Votes: true, Health: "Unseen", Reason: "its pod is not there"},
	}
	if diff := cmp.Diff(want, s.Members); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Nothing new, nothing written: not even when time or the order of conditions is new.
func TestSame(t *testing.T) {
	e, pods := ensemble(3, 3)
	v := view(e, pods, "leader follower follower")
	first := Observe(e, pods, &v)
	carry(&first, nil, metav1.NewTime(noon))
	e.Status = first
	e.Status.Grants = []v1alpha1.Grant{{PodUID: "x", Name: "elsewhere"}}
	e.Status.Conditions = append(e.Status.Conditions, metav1.Condition{Type: "Guarded", Status: metav1.ConditionTrue})
	again := Observe(e, pods, &v)
	carry(&again, e.Status.Conditions, metav1.NewTime(noon.Add(time.Hour)))
	if !same(&again, &e.Status) || !again.Conditions[0].LastTransitionTime.Equal(&first.Conditions[0].LastTransitionTime) {
		t.Errorf("the same is taken for new:\n%s", cmp.Diff(e.Status, again))
	}
	v = view(e, pods, "leader follower silent")
	other := Observe(e, pods, &v)
	carry(&other, e.Status.Conditions, metav1.NewTime(noon.Add(time.Hour)))
	if same(&other, &e.Status) {
		t.Error("what is new is taken for the same")
	}
}

// An Ensemble that does not change is looked at ever less often, one that does soon
// again; and not all of them in the same moment.
func TestRhythm(t *testing.T) {
	p := Pace{}.withDefaults()
	r := rhythm{uid: "a"}
	last := time.Duration(0)
	for range 6 {
		d := r.next(p, false)
		if d < last || d > p.Most {
			t.Errorf("pause %s after %s, at most %s", d, last, p.Most)
		}
		last = d
	}
	if r.pause != p.Most {
		t.Errorf("pause %s, want %s in the end", r.pause, p.Most)
	}
	if d := r.next(p, true); d > p.Every || d < p.Every*4/5 {
		t.Errorf("pause %s after a change, want about %s", d, p.Every)
	}
	pauses := map[time.Duration]bool{}
	for i := range 100 {
		other := rhythm{uid: types.UID(fmt.Sprintf("uid-%d", i))}
		pauses[other.next(p, true).Round(10*time.Millisecond)] = true
	}
	if len(pauses) < 20 {
		t.Errorf("100 ensembles share %d pauses", len(pauses))
	}
}

func TestMinAvailable(t *testing.T) {
	cases := map[string]struct {
		words   string
		absent  []string
		desired int
		want    int
	}{
		"live and desired agree":              {"leader follower follower follower follower", nil, 5, 3},
		"scaled down, not reconfigured":       {"leader follower follower follower follower", nil, 3, 3},
		"to be scaled up":                     {"leader follower follower", nil, 5, 3},
		"observers may be the ones that stay": {"leader follower follower observer observer", nil, 3, 4},
		"nobody heard":                        {"silent silent silent", nil, 3, 2},
		"a voter without a pod":               {"leader follower follower", []string{"9"}, 3, 3},
	}
	for name, c := range cases {
		n := len(strings.Fields(c.words))
		e, pods := ensemble(n, n)
		v := view(e, pods, c.words, c.absent...)
		if got := MinAvailable(&v, c.desired); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestRival(t *testing.T) {
	e, pods := ensemble(3, 3)
	budget := func(name, app string) policyv1.PodDisruptionBudget {
		return policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		}
	}
	ours := *Budget(e, 2)
	own, other := rival(e, pods, []policyv1.PodDisruptionBudget{budget("web", "web"), ours})
	if own == nil || other != nil {
		t.Errorf("own %v, other %v; want ours alone", own, other)
	}
	own, other = rival(e, pods, []policyv1.PodDisruptionBudget{budget("chart", "zk"), ours})
	if own == nil || other == nil || other.Name != "chart" {
		t.Errorf("own %v, other %v; want both", own, other)
	}
	if ours.Spec.MinAvailable.IntValue() != 2 || *ours.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
		t.Errorf("our budget is %+v", ours.Spec)
	}
}

// A leader counts who still resyncs. While it may do so in place of somebody, nobody may
// go; of who is in sync the smaller number is told, which holds but for a moment.
func TestObserveTheLeadersCount(t *testing.T) {
	e, pods := ensemble(5, 5)
	for _, c := range []struct {
		counts int
		want   string
	}{
		{-1, "voters=5 quorum=3 synced=4 allowed=1 Quorate=True QuorumInSync"},
		{4, "voters=5 quorum=3 synced=4 allowed=1 Quorate=True QuorumInSync"},
		{3, "voters=5 quorum=3 synced=4 allowed=0 Quorate=True QuorumInSync"},
		{2, "voters=5 quorum=3 synced=3 allowed=0 Quorate=True QuorumInSync"},
		{1, "voters=5 quorum=3 synced=2 allowed=0 Quorate=Unknown Unknown"},
	} {
		v := view(e, pods, "leader follower follower follower syncing")
		v.Counted = c.counts
		s := Observe(e, pods, &v)
		if got := numbers(&s); got != c.want {
			t.Errorf("the leader counts %d: got %s, want %s", c.counts, got, c.want)
		}
	}
}
