package serving

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Readiness is the sum of named checks. Without any it is ready.
type Readiness struct {
	mu       sync.Mutex // guards below
	checks   []check
	draining bool
}

type check struct {
	name string
	ask  func() error
}

var errDraining = errors.New("shutting down")

// Add a check, which must answer at once.
func (r *Readiness) Add(name string, ask func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, check{name, ask})
}

// Drain makes it not ready for good.
func (r *Readiness) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// Check is nil where everything is ready; else it names all that is not.
func (r *Readiness) Check() error {
	r.mu.Lock()
	checks, draining := r.checks, r.draining
	r.mu.Unlock()
	if draining {
		return errDraining
	}
	var problems []string
	for _, c := range checks {
		if err := c.ask(); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", c.name, err))
		}
	}
	if problems != nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// ServeHTTP answers 200, or 503 with what is not ready.
func (r *Readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if err := r.Check(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// HealthMux serves /healthz and /livez, which answer once works has returned, as it
// must while the process does its work, and /readyz.
func HealthMux(works func(), ready *Readiness) *http.ServeMux {
	mux := http.NewServeMux()
	alive := func(w http.ResponseWriter, _ *http.Request) {
		works()
		fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("/healthz", alive)
	mux.HandleFunc("/livez", alive)
	mux.Handle("/readyz", ready)
	return mux
}
