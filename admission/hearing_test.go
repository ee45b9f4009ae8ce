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
	number := map[int]int{} // of each server: the member that it is
	for i := range pods {
		server := w.serverOf(pods[i].Name)
		m := probe.Member{Name: pods[i].Name, ServerID: strconv.Itoa(server), Reason: "no answer"}
		m.Answer = &probe.Answer{Target: probe.Target{UID: pods[i].UID}, Epoch: w.epoch, At: at, Took: time.Since(at)}
		proc := w.answering(address(pods[i].Status.PodIP))
		switch {
		case !w.calm && w.chance(2) || proc == nil || w.muffled[server]:
		case proc.synced:
			m.Health, m.Answer.Heard, m.Answer.Serving = probe.Synced, true, true
		default:
			m.Health, m.Answer.Heard = probe.NotSynced, true
		}
		if _, twin := number[server]; !twin || m.Health == probe.Synced {
			number[server] = i
		}
		v.Members = append(v.Members, m)
	}
	var voters quorum.Set
	for server := range w.servers {
		k, ok := number[server]
		if ok {
			w.hear(&v, k, server)
		} else {
			k = len(pods) + len(v.Strangers)
			v.Strangers, v.Unseen = append(v.Strangers, strconv.Itoa(server)), v.Unseen.With(k)
		}
		voters = voters.With(k)
	}
	v.System = quorum.Majority(voters)
	if k, ok := number[w.removing]; ok {
		v.Changing, v.System = true, quorum.Joint(v.System, quorum.Majority(voters.Minus(quorum.SetOf(k))))
	}
	if v.Known = v.Leader >= 0; !v.Known {
		v.Reason, v.Unseen, v.Synced = "no server leads", v.Unseen|v.Synced, 0
	}
	if f := w.afterLook; f != nil {
		w.afterLook = nil
		f()
	}
	return v
}

// hear puts a voter where it belongs.
func (w *world) hear(v *probe.View, k, server int) {
	v.Members[k].Votes = true
	switch v.Members[k].Health {
	case probe.Synced:
		v.Synced = v.Synced.With(k)
		if server == w.leader {
			v.Leader = k
		}
	case probe.Unseen:
		v.Unseen = v.Unseen.With(k)
	default:
	}
}

// serverOf is the server that the pod says it is.
func (w *world) serverOf(pod string) int {
	if server, ok := w.cloneOf[pod]; ok {
		return server
	}
	return ordinal(pod)
}

// counted is how many followers the leader counts, heard by us or not: as ZooKeeper
// does, who still resyncs among them.
func (w *world) counted() int {
	servers := map[int]bool{}
	for _, p := range w.processes {
		if p.alive && !p.deaf && (p.synced || p.joined) && p.server != w.leader && p.server < len(w.servers) {
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
