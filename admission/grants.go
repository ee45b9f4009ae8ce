package admission

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Timing is how long yes lasts. Zero fields are the defaults, which follow from
// the API server: an eviction acts at most 34 s after it was asked. Only a test
// whose requests end sooner may shorten them.
type Timing struct {
	// TTL of a grant that nobody used: 90 s.
	TTL time.Duration
	// Arm is how long an Ensemble must be known before it grants anything: 90 s.
	Arm time.Duration
	// Repeat is how long the same yes is said again: 45 s.
	Repeat time.Duration
	// Keep is how long a grant for a name, not for a uid, outlives its last yes: 40 s.
	Keep time.Duration
}

// WithDefaults fills in what is zero.
func (t Timing) WithDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&t.TTL, 90 * time.Second}, {&t.Arm, 90 * time.Second}, {&t.Repeat, 45 * time.Second}, {&t.Keep, 40 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return t
}

const (
	// maxRepeats of one yes, after the first.
	maxRepeats = 9
	// maxGrants that the schema holds.
	maxGrants = 128
)

// Armed reports whether the grants of the Ensemble are all there are: it was
// watched for long enough since this very object was made. An Ensemble that was
// made anew, or restored from a backup, may have lost grants that still act.
func Armed(e *v1alpha1.Ensemble) bool {
	g := e.Status.Guard
	return g != nil && g.UID == string(e.UID) && g.Armed
}

// Arming is the next step towards Armed, or nil if there is none to take now. It
// is written by compare-and-swap, like a grant.
func Arming(e *v1alpha1.Ensemble, a Ages, t Timing) *v1alpha1.GuardStatus {
	switch g := e.Status.Guard; {
	case g == nil || g.UID != string(e.UID):
		return &v1alpha1.GuardStatus{UID: string(e.UID)}
	case !g.Armed && a.Guard >= t.WithDefaults().Arm:
		return &v1alpha1.GuardStatus{UID: g.UID, Armed: true}
	default:
		return nil
	}
}

// Kept are the grants that have not ended. What has ended is dropped by the next
// write; until then every reader drops it for itself. Evidence that is not whole ends
// none.
func Kept(ev Evidence, t Timing) []v1alpha1.Grant {
	t = t.WithDefaults()
	var kept []v1alpha1.Grant
	for i := range ev.Ensemble.Status.Grants {
		if g := &ev.Ensemble.Status.Grants[i]; !ev.well() || !ev.ended(g, t) {
			kept = append(kept, *g.DeepCopy())
		}
	}
	return kept
}

// ended reports whether the grant is over: its server is back in a new process,
// its server left the configuration, or nobody used it.
func (ev *Evidence) ended(g *v1alpha1.Grant, t Timing) bool {
	age := ev.Ages.Grants[g.PodUID]
	switch ev.Fates[g.PodUID] {
	case Lives:
		return age.Unchanged >= t.TTL || ev.left(g)
	case Terminating:
		return ev.left(g)
	case Gone:
		if g.Reason == EvictionByName && age.Unchanged < t.Keep {
			return false
		}
		return ev.left(g) || ev.back(g, age) || ev.nameless(g, age, t)
	default:
		return false
	}
}

// left reports whether no configuration counts the server any more.
func (ev *Evidence) left(g *v1alpha1.Grant) bool {
	v := &ev.View
	if g.ServerID == "" || !v.Live || !v.Known || v.Changing || slices.Contains(v.Strangers, g.ServerID) {
		return false
	}
	for i := range v.Members {
		m := &v.Members[i]
		if (m.ServerID == g.ServerID || m.ServerID == "") && (m.Votes || v.Voters().Has(i)) {
			return false
		}
	}
	return true
}

// back reports whether the server is synced again, in a new process.
func (ev *Evidence) back(g *v1alpha1.Grant, age GrantAge) bool {
	i := ev.successor(g)
	if i < 0 {
		return false
	}
	old := g.PodIP == "" || g.PodIP == ev.Pods[i].IP.String()
	return !old || age.Synced > 0 && age.Synced >= ev.View.Settle
}

// successor is the synced member that took the place of the granted pod, or -1.
// There must be exactly one that could be it: a server id that two pods claim tells
// nothing about either.
func (ev *Evidence) successor(g *v1alpha1.Grant) int {
	v := &ev.View
	claims := ev.claims(g)
	if !v.Known || v.Doubt() > 0 || claims.Len() != 1 {
		return -1
	}
	for i := range claims.Servers() {
		if i >= len(ev.Pods) {
			return -1
		}
		p := &ev.Pods[i]
		if string(p.UID) != g.PodUID && !p.Terminating && p.Running && p.IP.IsValid() && v.Members[i].Health == probe.Synced {
			return i
		}
	}
	return -1
}

// nameless reports whether nobody can come back as the granted pod: no pod bears its name
// or tells its server id, and no configuration names a server that is not there.
func (ev *Evidence) nameless(g *v1alpha1.Grant, age GrantAge, t Timing) bool {
	return (g.ServerID == "" || ev.untold(g)) && ev.claims(g) == 0 && age.Unchanged >= t.TTL
}

// untold reports whether members are known by their pods alone, although they tell their
// server ids: under a leader, nobody tells a configuration, and the one that was read last,
// if any was, does not count the server.
func (ev *Evidence) untold(g *v1alpha1.Grant) bool {
	counts := func(m v1alpha1.MemberStatus) bool { return m.Votes && m.ServerID == g.ServerID }
	return ev.View.Known && !ev.View.Live && !slices.ContainsFunc(ev.Ensemble.Status.Members, counts)
}

// grant adds the targets to kept, or adds this request to the grant that one has.
// repeat is whether all of them had one.
func grant(ev *Evidence, targets []int, kept []v1alpha1.Grant, ask Ask) (grants []v1alpha1.Grant, repeat bool) {
	grants, repeat = kept, true
	for _, i := range targets {
		p := &ev.Pods[i]
		if k := indexOf(grants, string(p.UID)); k >= 0 {
			g := &grants[k]
			g.RequestUIDs = append(slices.Clone(g.RequestUIDs), ask.RequestUID)
			if ask.Reason == EvictionByName {
				g.Reason = ask.Reason
			}
			continue
		}
		repeat = false
		g := v1alpha1.Grant{
			PodUID: string(p.UID), Name: p.Name, Node: p.Node, ServerID: ev.View.Members[i].ServerID,
			RequestUIDs: []string{ask.RequestUID}, User: bounded(ask.User, 253), Reason: ask.Reason, Since: metav1.NewTime(ev.Now),
		}
		if p.IP.IsValid() {
			g.PodIP = p.IP.String()
		}
		grants = append(grants, g)
	}
	return grants, repeat
}

// Withdraw takes back the yes of a request that was not said after all, if it was
// the last one. changed is whether there was something to take back.
func Withdraw(grants []v1alpha1.Grant, podUID, requestUID string) (left []v1alpha1.Grant, changed bool) {
	left = slices.Clone(grants)
	k := indexOf(left, podUID)
	if k < 0 || len(left[k].RequestUIDs) == 0 || left[k].RequestUIDs[len(left[k].RequestUIDs)-1] != requestUID {
		return left, false
	}
	if left[k].RequestUIDs = slices.Clone(left[k].RequestUIDs[:len(left[k].RequestUIDs)-1]); len(left[k].RequestUIDs) == 0 {
		return slices.Delete(left, k, k+1), true
	}
	return left, true
}

// tooManyRepeats reports whether yes was said to a target too often or too long.
func (ev *Evidence) tooManyRepeats(targets []int, kept []v1alpha1.Grant, t Timing) bool {
	return ev.wornGrant(targets, kept, t) != nil
}

func (ev *Evidence) wornGrant(targets []int, kept []v1alpha1.Grant, t Timing) *v1alpha1.Grant {
	t = t.WithDefaults()
	for _, i := range targets {
		k := indexOf(kept, string(ev.Pods[i].UID))
		if k < 0 {
			continue
		}
		if g := &kept[k]; len(g.RequestUIDs) > maxRepeats || ev.tooLong(g, t) {
			return g
		}
	}
	return nil
}

// tooLong reports whether the same yes was said for too long. That to a scale-down is said
// again when its StatefulSet gets round to the pod, which may wait for others to go: only
// the number of its repeats is bounded, so that it ends all the same.
func (ev *Evidence) tooLong(g *v1alpha1.Grant, t Timing) bool {
	return g.Reason != ScaleDown && ev.Ages.Grants[g.PodUID].First >= t.Repeat
}

func indexOf(grants []v1alpha1.Grant, podUID string) int {
	return slices.IndexFunc(grants, func(g v1alpha1.Grant) bool { return g.PodUID == podUID })
}

// bounded is the beginning of a text, n bytes at most, and no half a character.
func bounded(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
