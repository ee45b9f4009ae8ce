package admission

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// world is a model of an API server, a StatefulSet controller, kubelets and an
// ensemble of majority quorum. It runs on the fake clock of a synctest bubble.
type world struct {
	t     *testing.T
	spare int

	mu       sync.Mutex // guards below
	rng      *rand.Rand
	rv, uids int
	// ensembles that select the pods: one, or two.
	ensembles map[string]*v1alpha1.Ensemble
	pods      map[string]*modelPod
	servers   []modelServer
	leader    int // -1 during an election
	epoch     uint64
	processes []*process
	zombies   map[netip.Addr]*process
	broken    []string // what the oracle saw
	trace     []string // what happened, for when it saw something
	calm      bool     // no faults any more
	slow      time.Duration
	cloneOf   map[string]int // pods made by hand, and which server they say they are
	removing  int            // the server that a change of the membership leaves out, once it is through; -1
	muffled   map[int]bool   // servers that the guard cannot hear
	tardy     time.Duration  // how late kubelets report at the least
	sticky    bool           // a new pod gets the address of the old one
	budgeted  bool           // the pods have a PodDisruptionBudget
	afterRead func()         // runs once, after the next read of one pod
	afterLook func()         // runs once, after the next look at the members
	closed    chan struct{}
	tasks     sync.WaitGroup
}

type modelPod struct {
	name        string
	uid         types.UID
	ip          netip.Addr
	server      int
	terminating bool
	running     bool
	relabelled  bool
	owner       types.UID // StatefulSet
	proc        *process
}

// process is one life of a server.
type process struct {
	server        int
	alive, synced bool
	// deaf processes were lost by their leader, and still say that they follow it.
	deaf bool
	// joined processes are counted by their leader, though they may still resync.
	joined bool
	id     string
}

// serves reports whether it counts for a quorum.
func (p *process) serves() bool { return p.alive && p.synced && !p.deaf }

// modelServer is what the oracle remembers of a server.
type modelServer struct {
	crashed time.Time // not by us, while it was synced; zero if it is up, or went by a request
}

func newWorld(t *testing.T, seed uint64, voters, spare int) *world {
	w := &world{
		t: t, spare: spare, rng: rand.New(rand.NewPCG(seed, 1)), ensembles: map[string]*v1alpha1.Ensemble{},
		pods: map[string]*modelPod{}, servers: make([]modelServer, voters), zombies: map[netip.Addr]*process{},
		muffled: map[int]bool{}, cloneOf: map[string]int{}, removing: -1, closed: make(chan struct{}), slow: 5 * time.Second,
	}
	w.makeArmed("zk")
	for i := range voters {
		w.start(i, netip.Addr{})
		p := w.pods[podName(i)]
		p.running, p.proc.alive, p.proc.synced = true, true, true
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func podName(i int) string { return "zk-" + strconv.Itoa(i) }

func (w *world) next() int { w.uids++; return w.uids }

func (w *world) makeEnsemble(name string) {
	w.rv++
	w.ensembles[name] = &v1alpha1.Ensemble{
		ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, w.next())), ResourceVersion: strconv.Itoa(w.rv)},
		Spec: v1alpha1.EnsembleSpec{
			Selector:   v1alpha1.Selector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "zookeeper"}},
			Disruption: v1alpha1.DisruptionSpec{Spare: int32(w.spare)},
		},
	}
}

// makeArmed makes one whose grants are all there are.
func (w *world) makeArmed(name string) {
	w.makeEnsemble(name)
	e := w.ensembles[name]
	e.Status.Guard = &v1alpha1.GuardStatus{UID: string(e.UID), Armed: true}
}

// start makes a new pod of the server, whose process is not there yet.
func (w *world) start(server int, ip netip.Addr) *modelPod {
	n := w.next()
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	p := &modelPod{
		name: podName(server), uid: types.UID("pod-" + strconv.Itoa(n)), ip: ip, server: server,
		proc: w.launch(server, n),
	}
	w.pods[p.name] = p
	return p
}

// launch is a new process of the server, which does not run yet.
func (w *world) launch(server, n int) *process {
	p := &process{server: server, id: "process-" + strconv.Itoa(n)}
	w.processes = append(w.processes, p)
	return p
}

// after runs f that much later, under the lock, unless the world ended.
func (w *world) after(d time.Duration, f func()) {
	w.tasks.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			w.mu.Lock()
			defer w.mu.Unlock()
			f()
		case <-w.closed:
		}
	})
}

func (w *world) end() {
	close(w.closed)
	w.tasks.Wait()
}

// upto is a random time below d.
func (w *world) upto(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// bring lets the pod's process come up and resync.
func (w *world) bring(p *modelPod) {
	w.after(500*time.Millisecond+w.upto(2*time.Second), func() {
		if w.pods[p.name] != p || p.terminating {
			return
		}
		if z := w.zombies[p.ip]; z != nil && z.alive { // the address is in use: it crash-loops
			w.flicker(p)
			return
		}
		p.proc.alive = true
		w.resync(p)
		w.report(p)
	})
}

// report that the process runs, as a kubelet does: late, at times.
func (w *world) report(p *modelPod) {
	proc, late := p.proc, w.tardy
	if !w.calm {
		late += w.upto(3 * time.Second)
	}
	w.after(late, func() { p.running = p.running || p.proc == proc && proc.alive })
}

// flicker shows the container running for a moment, although its process can't.
func (w *world) flicker(p *modelPod) {
	p.running, p.proc = true, w.launch(p.server, w.next())
	w.after(w.upto(time.Second), func() { p.running = false })
	w.bring(p)
}

func (w *world) resync(p *modelPod) {
	proc := p.proc
	w.after(w.upto(time.Second), func() { proc.joined = proc.alive && w.leader >= 0 })
	w.after(time.Second+w.upto(w.slow), func() {
		switch {
		case p.terminating:
		case proc.alive && w.leader < 0:
			w.resync(p)
		case proc.alive:
			w.note("%s %s synced", p.name, p.uid)
			proc.synced, w.servers[p.server].crashed = true, time.Time{}
		}
	})
}

// crash stops a server's process, not by us; it comes back in the same pod.
func (w *world) crash(server int) {
	p := w.pods[podName(server)]
	if p == nil || !p.proc.alive {
		return
	}
	if p.proc.serves() && !p.terminating {
		w.servers[server].crashed = time.Now()
	}
	w.note("%s %s crashed, synced=%t", p.name, p.uid, p.proc.synced)
	p.proc.alive, p.proc.synced = false, false
	p.running, p.proc = false, w.launch(server, w.next())
	w.lost(server)
	w.bring(p)
}

// deafen makes the leader lose a follower that does not know it for a while, less than
// a settle time.
func (w *world) deafen(server int) {
	p := w.pods[podName(server)]
	if p == nil || !p.proc.serves() || server == w.leader {
		return
	}
	if !p.terminating {
		w.servers[server].crashed = time.Now()
	}
	w.note("%s %s was lost by the leader", p.name, p.uid)
	proc := p.proc
	proc.deaf = true
	w.after(w.upto(9*time.Second), func() {
		proc.deaf, proc.synced, proc.joined = false, false, false
		if p.proc == proc {
			w.resync(p)
		}
	})
}

// lost holds an election if the leader went.
func (w *world) lost(server int) {
	if w.leader == server {
		w.note("the leader is lost")
		w.leader = -1
		w.elect()
	}
}

func (w *world) elect() {
	w.after(200*time.Millisecond+w.upto(time.Second), func() {
		best, alive := -1, 0
		for i := range w.servers {
			p := w.pods[podName(i)]
			if p == nil || !p.proc.alive {
				continue
			}
			if alive++; best < 0 || p.proc.serves() {
				best = i
			}
		}
		if alive <= len(w.servers)/2 {
			w.elect()
			return
		}
		w.leader, w.epoch = best, w.epoch+1
		w.note("%s leads", podName(best))
		proc := w.pods[podName(best)].proc
		proc.synced, proc.deaf, w.servers[best].crashed = true, false, time.Time{}
	})
}

// remove is the landing of a deletion. began is when its request did: what
// crashed since could not be known. force leaves the process alive for a while.
func (w *world) remove(p *modelPod, began time.Time, force bool, d Decision) {
	if p.terminating || w.pods[p.name] != p {
		return
	}
	if p.proc.serves() {
		w.servers[p.server].crashed = time.Time{}
	}
	p.terminating = true
	w.note("%s %s went, asked %s before, force=%t: %s", p.name, p.uid, time.Since(began), force, d.Outcome)
	w.check(p, began, d)
	proc, grace := p.proc, w.upto(8*time.Second)
	stop := func() {
		proc.alive, proc.synced = false, false
		w.lost(p.server)
	}
	gone := func() {
		delete(w.pods, p.name)
		ip := netip.Addr{}
		if w.sticky {
			ip = p.ip
		}
		w.after(w.upto(2*time.Second), func() { w.bring(w.start(p.server, ip)) })
	}
	if !force {
		w.after(grace, func() { stop(); gone() })
		return
	}
	w.zombies[p.ip] = proc
	gone()
	w.after(w.upto(25*time.Second), stop)
}

// check is the oracle: of the servers whose pods nobody took, and those that
// crashed since the request began, a quorum and the spare must be in sync.
func (w *world) check(p *modelPod, began time.Time, d Decision) {
	up := 0
	for i := range w.servers {
		other := w.pods[podName(i)]
		switch crashed := w.servers[i].crashed; {
		case !crashed.IsZero() && crashed.After(began):
			up++
		case other != nil && other != p && !other.terminating && other.proc.serves():
			up++
		}
	}
	if p.proc.serves() && up < len(w.servers)/2+1+w.spare {
		w.broken = append(w.broken, fmt.Sprintf("%s went, asked %s before, and left %d of %d: %s %s", p.name, time.Since(began), up, len(w.servers), d.Outcome, d.Message))
	}
}
