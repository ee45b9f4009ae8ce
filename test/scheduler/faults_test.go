package scheduler

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/test/lab"
)

// faults is a proxy before the API server, for one scheduler: it spoils bindings
// while it is told to. It adds the scheduler's credentials, since clients send none
// without TLS.
type faults struct {
	server *httptest.Server
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex // guards below
	random *rand.Rand
	delay  time.Duration
	active bool
	doomed func(path string) bool // bindings that always fail until the end
	dooms  bool
	late   sync.WaitGroup
	counts map[string]int
}

func startFaults(t *testing.T, plane *lab.ControlPlane, seed uint64) *faults {
	t.Helper()
	config := plane.RESTConfigAs("system:kube-scheduler")
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{
		random: rand.New(rand.NewPCG(seed, 7)), active: true, dooms: true, delay: 200 * time.Millisecond,
		doomed: func(string) bool { return false }, counts: map[string]int{},
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f.server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.late.Wait()
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// calm lets all bindings pass but the doomed ones, and waits for those that are still to
// land.
func (f *faults) calm() {
	f.mu.Lock()
	f.active = false
	f.mu.Unlock()
	f.late.Wait()
}

// end lets the doomed bindings pass, too.
func (f *faults) end() {
	f.mu.Lock()
	f.active, f.dooms = false, false
	f.mu.Unlock()
	f.late.Wait()
}

// fate of one binding.
type fate struct {
	name  string
	delay time.Duration
	after time.Duration // lands this long after the scheduler was told that it failed
}

func (f *faults) fate(path string) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := fate{name: "slow", delay: f.delay}
	switch x := f.random.IntN(100); {
	case f.dooms && f.doomed(path):
		d.name = "failed"
	case !f.active:
		return fate{name: "passed"}
	case x < 10:
		d.name = "failed"
	case x < 22:
		d.name, d.after = "late", time.Duration(200+f.random.IntN(1500))*time.Millisecond
		f.late.Add(1)
	case x < 27:
		d.name = "lost" // lands, and the answer is lost
	}
	f.counts[d.name]++
	return d
}

// ServeHTTP implements http.Handler.
func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/binding") {
		f.proxy.ServeHTTP(w, r)
		return
	}
	d := f.fate(r.URL.Path)
	wait(r.Context(), d.delay)
	switch d.name {
	case "failed":
		http.Error(w, "the binding fails", http.StatusInternalServerError)
	case "late":
		f.landLater(r, d.after)
		http.Error(w, "the binding takes too long", http.StatusInternalServerError)
	case "lost":
		f.proxy.ServeHTTP(httptest.NewRecorder(), r)
		http.Error(w, "the answer is lost", http.StatusInternalServerError)
	default:
		f.proxy.ServeHTTP(w, r)
	}
}

// landLater sends the binding on after its scheduler has heard that it failed.
func (f *faults) landLater(r *http.Request, after time.Duration) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.late.Done()
		return
	}
	again := r.Clone(context.WithoutCancel(r.Context()))
	again.Body = io.NopCloser(bytes.NewReader(body))
	go func() {
		defer f.late.Done()
		wait(again.Context(), after)
		f.proxy.ServeHTTP(httptest.NewRecorder(), again)
	}()
}

// wait is how a fault takes its time.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
