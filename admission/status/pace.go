package status

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Pace is how often an Ensemble is looked at and written. Zero fields are the
// defaults.
type Pace struct {
	// Every is the time between two looks at an Ensemble that changes. Default 10 s.
	Every time.Duration
	// Most is the time between two looks at one that does not: each look that finds
	// nothing new doubles it. Default 60 s.
	Most time.Duration
	// Write is the least time between two writes of one Ensemble. Default 10 s.
	Write time.Duration
	// Look is how long a look may take. Default 2 s.
	Look time.Duration
	// AtOnce is how many Ensembles are looked at side by side. Default 16.
	AtOnce int
}

func (p Pace) withDefaults() Pace {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&p.Every, 10 * time.Second}, {&p.Most, time.Minute}, {&p.Write, 10 * time.Second}, {&p.Look, 2 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if p.AtOnce <= 0 {
		p.AtOnce = 16
	}
	p.Most = max(p.Most, p.Every)
	return p
}

// rhythm is what is remembered of one Ensemble between two looks.
type rhythm struct {
	uid     types.UID
	pause   time.Duration
	written time.Time
	quorate string
}

// next is the pause until the next look. Its length differs from one Ensemble to the
// other, so that a fleet that was seen at once is not always looked at at once.
func (r *rhythm) next(p Pace, changed bool) time.Duration {
	switch {
	case changed || r.pause == 0:
		r.pause = p.Every
	default:
		r.pause = min(p.Most, 2*r.pause)
	}
	return r.pause - time.Duration(spread(r.uid)*float64(r.pause)/5)
}

// spread is between 0 and 1, and stays the same for one Ensemble.
func spread(uid types.UID) float64 {
	h := uint32(2166136261)
	for i := range len(uid) {
		h = (h ^ uint32(uid[i])) * 16777619
	}
	return float64(h) / (1 << 32)
}

// rhythms are those of all Ensembles.
type rhythms struct {
	mu    sync.Mutex // guards below
	all   map[types.NamespacedName]*rhythm
	plain map[types.UID]bool // Ensembles that were seen to have no budget of ours
}

// backed reports whether the Ensemble may have a budget of ours.
func (r *rhythms) backed(uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.plain[uid]
}

// back notes whether it may have one from now on.
func (r *rhythms) back(uid types.UID, backed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plain == nil {
		r.plain = map[types.UID]bool{}
	}
	r.plain[uid] = !backed
}

// of returns the Ensemble's, a new one if it was made anew. One worker at a time
// looks at an Ensemble, so that what is returned needs no lock.
func (r *rhythms) of(key types.NamespacedName, uid types.UID) *rhythm {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[types.NamespacedName]*rhythm{}
	}
	one := r.all[key]
	if one == nil || one.uid != uid {
		if one != nil {
			delete(r.plain, one.uid)
		}
		one = &rhythm{uid: uid}
		r.all[key] = one
	}
	return one
}

func (r *rhythms) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.all[key]; one != nil {
		delete(r.plain, one.uid)
	}
	delete(r.all, key)
}

// counts is how many Ensembles are Quorate=True, False and Unknown.
func (r *rhythms) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, one := range r.all {
		n[one.quorate]++
	}
	return n
}

// quorate notes the verdict, and returns the one before.
func (r *rhythms) quorate(one *rhythm, status string) (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, one.quorate = one.quorate, status
	return before
}
