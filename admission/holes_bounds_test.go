package admission

import (
	"context"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/ensemble/probe"
	"github.com/quorate/quorate/ensemble/quorum"
	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// bounds are the holes that open where one yes is taken for another, or never ends.
var bounds = map[string]hole{
	"every yes is decided afresh": {
		why: "A request is asked again after another server was lost.",
		tell: func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, nil)
			s.mu.Lock()
			s.crash(1)
			s.mu.Unlock()
			s.pass(ctx, 300*time.Millisecond)
			s.evicted(ctx, 0)
		},
		without: func(s *stage) { s.mutant.recalls = true },
	},
	"the same yes ends": {
		why: "A PodDisruptionBudget refuses one member for ever, and whoever drains it never gives up.",
		tell: func(ctx context.Context, s *stage) {
			for range 240 {
				s.asked(ctx, 0, 1, nil)
				s.passUpTo(ctx, 5*time.Second)
				if s.asked(ctx, 0, 2, nil).d.Outcome.Allowed() {
					return
				}
				s.passUpTo(ctx, 5*time.Second)
			}
			s.breaks("Nobody else may go for as long as it tries.")
		},
		without: func(s *stage) { // neither after a time, nor after a number
			s.mutant.timing.Repeat = 24 * time.Hour
			s.mutant.ensembles = func(e *v1alpha1.Ensemble) {
				for i := range e.Status.Grants {
					g := &e.Status.Grants[i]
					if n := len(g.RequestUIDs); n > 2 {
						g.RequestUIDs = []string{g.RequestUIDs[0], g.RequestUIDs[n-1]}
					}
				}
			}
		},
	},
	"what nobody waits for is not written": {
		why: "The members take so long to answer that the API server has given up.",
		tell: func(ctx context.Context, s *stage) {
			s.mutant.after = func() { s.pass(ctx, 6*time.Second) }
			s.asked(ctx, 0, 0, nil)
			s.breaksIfGranted()
		},
		without: func(s *stage) { s.mutant.deadline = time.Minute },
	},
	"what may not be written is a no": {
		why: "The write of a grant is lost with its answer, and the other replica says yes.",
		tell: func(ctx context.Context, s *stage) {
			s.mutant.lost = true
			first, second := s.asked(ctx, 0, 0, nil), s.asked(ctx, 1, 1, nil)
			s.lands(first, false)
			s.lands(second, false)
		},
		without: func(s *stage) { s.mutant.trusts = true },
	},
	"both Ensembles are decided on first": {
		why: "A pod is in two Ensembles, and the second one can spare nobody.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.makeEnsemble("zk-two")
			e := s.ensembles["zk-two"]
			e.Spec.Disruption.Spare, e.Status.Guard = 1, &v1alpha1.GuardStatus{UID: string(e.UID), Armed: true}
			s.mu.Unlock()
			s.asked(ctx, 0, 0, nil)
			s.breaksIfGranted()
		},
		without: func(s *stage) { s.mutant.apart = true },
	},
	"a dry run of the request takes nothing": {
		why:     "The API server says that the request is a dry run.",
		tell:    dry(func(r *admissionv1.AdmissionRequest) { r.DryRun = new(true) }),
		without: func(s *stage) { s.mutant.wet = true },
	},
	"a dry run of the eviction takes nothing": {
		why:     "Only the eviction itself says so, as that of kubectl drain --dry-run=server.",
		tell:    dry(func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`{"deleteOptions":{"dryRun":["All"]}}`) }),
		without: func(s *stage) { s.mutant.wet = true },
	},
	"who is down may go only if bound to that": {
		why: "A request that nothing binds to the version stalls until the member is back, and needed.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.crash(0)
			s.crash(1)
			s.mu.Unlock()
			stalled := s.asked(ctx, 0, 0, nil)
			s.until(ctx, func() bool { return s.pods["zk-0"].proc.synced })
			s.lands(stalled, false)
		},
		without: func(s *stage) { s.mutant.exact = true },
	},
	"for a budget's sake a version is not heeded": {
		why: "An eviction that is bound to a pod which is down stalls until the member is back, and the API server evicts it all the same.",
		tell: func(ctx context.Context, s *stage) {
			s.mu.Lock()
			s.budgeted = true
			s.crash(0)
			s.crash(1)
			s.mu.Unlock()
			stalled := s.asked(ctx, 0, 0, s.asIs(0))
			s.until(ctx, func() bool { return s.pods["zk-0"].proc.synced })
			s.lands(stalled, false)
		},
		without: func(s *stage) { s.mutant.budgets = true },
	},
	"one pod claims the server": {
		why: "A pod made by hand answers for the server that was let go, by the process that was to end.",
		tell: func(ctx context.Context, s *stage) {
			s.slow = time.Hour
			s.mu.Lock()
			old := s.pods["zk-1"]
			s.mu.Unlock()
			s.lands(s.asked(ctx, 0, 1, nil), true)
			s.until(ctx, func() bool { return s.pods["zk-1"] != nil && s.pods["zk-1"] != old })
			s.mu.Lock()
			s.cloneOf["zk-9"] = 1
			s.pods["zk-9"] = &modelPod{name: "zk-9", uid: "clone", ip: address("192.0.2.9"), server: 1, running: true, proc: old.proc}
			s.mu.Unlock()
			s.evicted(ctx, 2)
		},
		without: func(s *stage) { // the new pod claims nothing
			s.mutant.ensembles = func(e *v1alpha1.Ensemble) {
				for i := range e.Status.Grants {
					e.Status.Grants[i].Name = "zk-9"
				}
			}
			s.mutant.view = func(v *probe.View, _ []corev1.Pod) {
				if i := v.Index("zk-1"); i >= 0 && len(v.Members) > 3 {
					v.Members[i].ServerID = ""
				}
			}
		},
	},
	"two looks are a settle time apart": {
		why: "The container of the next pod runs for a moment, while the process of the old one answers at its address.",
		tell: func(ctx context.Context, s *stage) {
			s.sticky = true
			s.lands(s.asked(ctx, 0, 0, nil), true)
			for range 400 {
				s.evicted(ctx, 1)
				s.pass(ctx, 50*time.Millisecond)
			}
		},
		without: func(s *stage) { s.mutant.view = func(v *probe.View, _ []corev1.Pod) { v.Settle = 0 } },
	},
	"a pod without its labels is read by name": {
		why: "A pod loses its labels after a yes that nobody uses.",
		tell: func(ctx context.Context, s *stage) {
			s.asked(ctx, 0, 0, nil)
			s.mu.Lock()
			s.pods["zk-0"].relabelled = true
			s.mu.Unlock()
			s.pass(ctx, 100*time.Second)
			s.ended(ctx, 0)
			s.breaksIfGranted()
		},
		without: func(s *stage) { s.mutant.hides = true },
	},
	"a change of the membership counts both": {
		why:    "A server is taken out while a yes for it is on its way, and stays in after all.",
		voters: 4,
		tell: func(ctx context.Context, s *stage) {
			first := s.asked(ctx, 0, 1, nil)
			s.mu.Lock()
			s.removing = 1
			s.mu.Unlock()
			second := s.asked(ctx, 0, 2, nil)
			s.mu.Lock()
			s.removing = -1
			s.mu.Unlock()
			s.lands(first, false)
			s.lands(second, false)
		},
		without: func(s *stage) {
			s.mutant.view = func(v *probe.View, _ []corev1.Pod) {
				if v.Changing { // as if it were through
					left := quorum.SetOf(1)
					v.Changing, v.Members[1].Votes = false, false
					v.System, v.Synced = quorum.Majority(v.Voters().Minus(left)), v.Synced.Minus(left)
				}
			}
		},
	},
}

// dry asks for a dry run in one of its forms, read from a review.
func dry(form func(*admissionv1.AdmissionRequest)) func(context.Context, *stage) {
	return func(ctx context.Context, s *stage) {
		review := evict("zk-0", `{}`)
		form(&review)
		r, _, _, err := parse(&review)
		if err != nil {
			s.t.Fatal(err)
		}
		s.asked(ctx, 0, 0, func(own *Request) { own.DryRun = r.DryRun })
		s.breaksIfGranted()
	}
}

func (s *stage) breaksIfGranted() {
	if grants, _ := s.stored(); len(grants) > 0 {
		s.breaks("A grant is left that nobody was told of.")
	}
}
