package admission

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Examine implements Examiner: every address is asked, and whoever answers there
// says what it is.
func (w *world) Examine(ctx context.Context, _ *v1alpha1.Ensemble, pods []corev1.Pod) probe.View {
	at := time.Now()
	w.delay(ctx, 50*time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	v := probe.View{Live: true, Leader: -1, Counted: w.counted(), Settle: 10 * time.Second, At: at}
	var voters quorum.Set
	claimed := map[int]bool{}
	for i := range pods {
		server := ordinal(pods[i].Name)
		m := probe.Member{Name: pods[i].Name, ServerID: strconv.Itoa(server), Votes: true, Reason: "no answer"}
		m.Answer = &probe.Answer{Target: probe.Target{UID: pods[i].UID}, Epoch: w.epoch}
		proc := w.answering(address(pods[i].Status.PodIP))
		switch {
		case !w.calm && w.chance(2) || proc == nil || w.muffled[server]:
			v.Unseen = v.Unseen.With(i)
		case proc.synced:
			m.Health, v.Synced = probe.Synced, v.Synced.With(i)
			if server == w.leader {
				v.Leader = i
			}
		default:
			m.Health = probe.NotSynced
		}
		v.Members, voters, claimed[server] = append(v.Members, m), voters.With(i), true
	}
	for i := range w.servers {
		if !claimed[i] {
			k := len(pods) + len(v.Strangers)
			v.Strangers, voters, v.Unseen = append(v.Strangers, strconv.Itoa(i)), voters.With(k), v.Unseen.With(k)
		}
	}
	v.System = quorum.Majority(voters)
	if v.Known = v.Leader >= 0; !v.Known {
		v.Reason, v.Unseen, v.Synced = "no server leads", v.Unseen|v.Synced, 0
	}
	return v
}

// counted is how many followers the leader has in sync, heard by us or not.
func (w *world) counted() int {
	servers := map[int]bool{}
	for _, p := range w.processes {
		if p.serves() && p.server != w.leader {
			servers[p.server] = true
		}
	}
	return len(servers)
}

func (w *world) answering(ip netip.Addr) *process {
	if z := w.zombies[ip]; z != nil && z.alive {
		return z
	}
	for _, p := range w.pods {
		if p.ip == ip && p.proc.alive {
			return p.proc
		}
	}
	return nil
}
