package admission

import (
	"context"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// overwrites makes every write one against what is there now.
func overwrites(s *stage) {
	s.mutant.update = func(e *v1alpha1.Ensemble) {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.ResourceVersion = s.ensembles[e.Name].ResourceVersion
	}
}

// backUnnoticed is zk-1, which was down and follows again: its kubelet did not say so yet,
// and the guard does not hear it.
func (s *stage) backUnnoticed(ctx context.Context) {
	s.mu.Lock()
	s.tardy, s.muffled[1] = time.Minute, true
	s.crash(1)
	s.mu.Unlock()
	s.until(ctx, func() bool { return s.pods["zk-1"].proc.synced })
}

var holes = map[string]hole{
	"a grant counts as gone": {
		why: "Two replicas say yes one after the other, before either pod goes.",
		tell: func(ctx context.Context, s *stage) {
			first, second := s.asked(ctx, 0, 0, nil), s.asked(ctx, 1, 1, nil)
			s.lands(first, false)
			s.lands(second, false)
		},
		without: func(s *stage) { s.mutant.ensembles = func(e *v1alpha1.Ensemble) { e.Status.Grants = nil } },
	},
	"a yes is written against what it was decided on": {
		why: "Between the look and the write of one replica, the other one says yes.",
		tell: func(ctx context.Context, s *stage) {
			var second promise
			s.mutant.after = func() { second = s.asked(ctx, 1, 1, nil) }
			first := s.asked(ctx, 0, 0, nil)
			s.lands(first, false)
			s.lands(second, false)
		},
		without: overwrites,
	},
	"a grant is ended against what was read": {
		why: "While one replica ends a grant of before, the other one says yes.",
		tell: func(ctx context.Context, s *stage) {
			old := s.first()
			s.evicted(ctx, 0)
			s.back(ctx, 0, old)
			var first promise
			s.mutant.after = func() { first = s.asked(ctx, 1, 0, nil) }
			s.ended(ctx, 0)
			s.evicted(ctx, 1)
			s.lands(first, false)
		},
		without: overwrites,
	},
	"nothing is judged from a cache": {
		why: "A server was lost since the cache was filled.",
		tell: func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, func(r *Request) { r.DryRun = true })
			s.mu.Lock()
			s.crash(1)
			s.mu.Unlock()
			s.pass(ctx, 300*time.Millisecond)
			s.evicted(ctx, 0)
		},
		without: func(s *stage) { s.mutant.stale = true },
	},
	"who terminates is gone": {
		why: "The taint manager deletes a pod, whose process answers well until its grace is over.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.remove(s.pods["zk-0"], time.Now(), false, Decision{})
			s.mu.Unlock()
			s.evicted(ctx, 1)
		},
		without: func(s *stage) { s.mutant.pods = func(p *corev1.Pod) { p.DeletionTimestamp = nil } },
	},
	"who does not run is gone": {
		why: "A pod was force-deleted past us, and its process answers at the address of the next one.",
		tell: func(ctx context.Context, s *stage) {
			s.sticky = true
			old := s.first()
			s.mu.Lock()
			s.remove(old, time.Now(), true, Decision{})
			s.mu.Unlock()
			s.until(ctx, func() bool { p := s.pods["zk-0"]; return p != nil && p != old })
			s.evicted(ctx, 1)
		},
		without: func(s *stage) {
			s.mutant.pods = func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			}
		},
	},
	"a grant outlives the request": {
		why: "A request stalls for 30 s after its yes.",
		tell: func(ctx context.Context, s *stage) {
			first := s.asked(ctx, 0, 0, nil)
			s.asked(ctx, 0, 1, nil) // sees the grant
			s.pass(ctx, 30*time.Second)
			s.evicted(ctx, 1)
			s.lands(first, false)
		},
		without: func(s *stage) { s.mutant.timing.TTL = 20 * time.Second },
	},
	"ages start again at every change": {
		why: "One replica repeats a yes late, and the other has seen the grant from the beginning.",
		tell: func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, nil)
			s.pass(ctx, 40*time.Second)
			s.asked(ctx, 1, 0, nil)
			s.pass(ctx, 40*time.Second)
			late := s.asked(ctx, 1, 0, nil)
			s.pass(ctx, 15*time.Second)
			s.evicted(ctx, 1)
			s.lands(late, false)
		},
		without: func(s *stage) {
			s.mutant.update = func(e *v1alpha1.Ensemble) {
				for i := range e.Status.Grants {
					e.Status.Grants[i].RequestUIDs = e.Status.Grants[i].RequestUIDs[:1]
				}
			}
		},
	},
	"a grant ends with a live resync": {
		why: "The new pod runs, and is not in sync yet.",
		tell: func(ctx context.Context, s *stage) {
			s.slow = 30 * time.Second
			old := s.first()
			s.evicted(ctx, 0)
			s.until(ctx, func() bool { p := s.pods["zk-0"]; return p != nil && p != old && p.running && !p.proc.synced })
			s.evicted(ctx, 1)
		},
		without: func(s *stage) {
			s.mutant.view = func(v *probe.View, pods []corev1.Pod) {
				for i := range pods {
					v.Members[i].Health, v.Synced, v.Unseen = probe.Synced, v.Synced.With(i), 0
				}
				v.Counted = len(pods) - 1
			}
		},
	},
	"the leader's count holds": {
		why: "The leader has lost a follower that does not know it yet.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.deafen(1)
			s.mu.Unlock()
			s.evicted(ctx, 2)
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Counted = -1 } },
	},
	"the leader counts without names": {
		why: "The same, and the one to go is in sync, but not heard: the leader counts as many as say so.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.muffled[2] = true
			s.deafen(1)
			s.mu.Unlock()
			s.evicted(ctx, 2)
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Settle = -time.Hour } },
	},
	"the leader counts who resyncs": {
		why:    "One that was evicted resyncs, and the leader counts it in place of a follower that it has lost.",
		voters: 5,
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.slow = time.Minute
			s.mu.Unlock()
			s.evicted(ctx, 3)
			s.until(ctx, func() bool {
				p := s.pods[podName(3)]
				return p != nil && p.proc.joined && !p.proc.synced
			})
			s.mu.Lock()
			s.deafen(1)
			s.mu.Unlock()
			s.evicted(ctx, 2)
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Settle = -time.Hour } },
	},
	"the new process answers for itself": {
		why: "A pod is deleted by force, its process lives on, and answers at the address of the next one.",
		tell: func(ctx context.Context, s *stage) {
			s.sticky = true
			s.lands(s.asked(ctx, 0, 0, nil), true)
			for range 400 {
				s.evicted(ctx, 1)
				s.pass(ctx, 50*time.Millisecond)
			}
		},
		without: func(s *stage) {
			s.mutant.ensembles = func(e *v1alpha1.Ensemble) {
				for i := range e.Status.Grants {
					e.Status.Grants[i].PodIP = "192.0.2.1"
				}
			}
		},
	},
	"a yes hits the pod it was given for": {
		why: "A request stalls until the next pod of the name is there, and another member was let go.",
		tell: func(ctx context.Context, s *stage) {
			old := s.first()
			stalled := s.asked(ctx, 0, 0, nil)
			s.evicted(ctx, 0)
			s.back(ctx, 0, old)
			s.evicted(ctx, 1)
			s.lands(stalled, false)
		},
		without: func(s *stage) { s.mutant.unbound = true },
	},
	"a yes for a name is kept": {
		why: "The same where no step binds requests to uids.",
		tell: func(ctx context.Context, s *stage) {
			old := s.first()
			stalled := s.asked(ctx, 0, 0, bySomeName)
			s.lands(s.asked(ctx, 0, 0, bySomeName), false)
			s.back(ctx, 0, old)
			s.lands(s.asked(ctx, 0, 1, bySomeName), false)
			s.lands(stalled, false)
		},
		without: func(s *stage) { s.mutant.timing.Keep = time.Millisecond },
	},
	"a new Ensemble waits": {
		why: "The Ensemble is made anew while a yes of the old one is on its way.",
		tell: func(ctx context.Context, s *stage) {
			first := s.asked(ctx, 0, 0, nil)
			s.mu.Lock()
			s.makeEnsemble("zk")
			s.mu.Unlock()
			s.evicted(ctx, 1)
			s.lands(first, false)
		},
		without: func(s *stage) {
			s.mutant.ensembles = func(e *v1alpha1.Ensemble) {
				e.Status.Guard = &v1alpha1.GuardStatus{UID: string(e.UID), Armed: true}
			}
		},
	},
	"a restored Ensemble waits": {
		why: "The same, restored with the status of a backup that lacks the latest grant.",
		tell: func(ctx context.Context, s *stage) {
			first := s.asked(ctx, 0, 0, nil)
			s.mu.Lock()
			status := s.ensembles["zk"].Status.DeepCopy()
			s.makeEnsemble("zk")
			s.ensembles["zk"].Status.Guard = status.Guard
			s.mu.Unlock()
			s.evicted(ctx, 1)
			s.lands(first, false)
		},
		without: func(s *stage) {
			s.mutant.ensembles = func(e *v1alpha1.Ensemble) {
				if e.Status.Guard != nil {
					e.Status.Guard.UID = string(e.UID)
				}
			}
		},
	},
	"a kubelet is late": {
		why: "A member that was down is back, by the leader's count; its kubelet did not say so yet, and the guard does not hear it.",
		tell: func(ctx context.Context, s *stage) {
			s.backUnnoticed(ctx)
			s.mu.Lock()
			s.muffled[2] = true
			s.deafen(2)
			version := s.pods["zk-1"].version()
			s.mu.Unlock()
			s.lands(s.asked(ctx, 0, 1, func(r *Request) { r.PodVersion = version }), false)
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Counted = -1 } },
	},
	"a kubelet is late and nobody counts": {
		why: "A member that was down is back, and its leader needs it, but tells no number; its kubelet did not say so yet, and the guard does not hear it.",
		tell: func(ctx context.Context, s *stage) {
			without := s.mutant.view
			s.mutant.view = func(v *probe.View, pods []corev1.Pod) {
				if v.Counted = -1; without != nil {
					without(v, pods)
				}
			}
			s.backUnnoticed(ctx)
			s.mu.Lock()
			s.crash(2)
			version := s.pods["zk-1"].version()
			s.mu.Unlock()
			s.lands(s.asked(ctx, 0, 1, func(r *Request) { r.PodVersion = version }), false)
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Live = false } },
	},
	"who is down may go only as it is": {
		why: "A request for a member that was down stalls until it is back, and needed.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.crash(0)
			s.crash(1)
			version := s.pods["zk-0"].version()
			s.mu.Unlock()
			stalled := s.asked(ctx, 0, 0, func(r *Request) { r.PodVersion = version })
			s.until(ctx, func() bool { return s.pods["zk-0"].proc.synced })
			s.lands(stalled, false)
		},
		without: func(s *stage) { s.mutant.unbound = true },
	},
}

// TestHoles plays every history twice: the guard keeps its promise, and would not
// without the one rule.
func TestHoles(t *testing.T) {
	all := maps.Clone(holes)
	maps.Copy(all, bounds)
	for name, h := range all {
		t.Run(name, func(t *testing.T) {
			for _, b := range h.play(t, false) {
				t.Errorf("%s %s", h.why, b)
			}
			if len(h.play(t, true)) == 0 {
				t.Errorf("%s Without the rule nothing broke: this history proves nothing", h.why)
			}
		})
	}
}
