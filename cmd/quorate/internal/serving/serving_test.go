package serving

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), "test", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func get(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(body)), err
}

// Two replicas under load, the first is ended: requests in flight end, readiness
// drops while it still serves, and no request fails. The clients leave a replica as a
// Service does: some time after it says that it is not ready.
func TestShutdownLosesNoRequest(t *testing.T) {
	var answered atomic.Int64
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
		}
		answered.Add(1)
		fmt.Fprintln(w, "done")
	})
	urls := make([]string, 2)
	health := make([]string, 2)
	stops, ends := make([]context.CancelFunc, 2), make([]chan error, 2)
	for i := range urls {
		ready := &Readiness{}
		web, probe := listen(t), listen(t)
		urls[i], health[i] = "http://"+web.Addr().String(), "http://"+probe.Addr().String()+"/readyz"
		var ctx context.Context
		ctx, stops[i] = context.WithCancel(t.Context())
		ends[i] = make(chan error, 1)
		go func() {
			ends[i] <- Run(ctx, Drain{Ready: ready, Delay: 4 * time.Second, Timeout: time.Minute},
				&Server{Name: "web", Listener: web, Handler: work},
				&Server{Name: "health", Listener: probe, Handler: HealthMux(func() {}, ready), Last: true})
		}()
	}
	var target atomic.Int32 // replicas from this one on are endpoints of the Service
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var failures sync.Map
	var sent atomic.Int64
	for n := range 8 {
		client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
		load.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				url := urls[max(int(target.Load()), i%2)]
				if code, _, err := get(context.WithoutCancel(ctx), client, url); err != nil || code != http.StatusOK {
					failures.Store(fmt.Sprintf("%d %v", code, err), true)
				}
				sent.Add(1)
			}
			client.CloseIdleConnections()
		})
	}
	await(t, "load", func() bool { return sent.Load() > 200 })
	stops[0]()
	// The endpoint goes once a probe has seen it unready.
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	await(t, "unready", func() bool {
		code, body, err := get(t.Context(), probe, health[0])
		return err == nil && code == http.StatusServiceUnavailable && body == "not ready: shutting down"
	})
	target.Store(1)
	if err := <-ends[0]; err != nil {
		t.Errorf("end of the first replica: %v", err)
	}
	before := sent.Load()
	await(t, "load after the end", func() bool { return sent.Load() > before+200 })
	cancel()
	load.Wait()
	stops[1]()
	if err := <-ends[1]; err != nil {
		t.Errorf("end of the second replica: %v", err)
	}
	failures.Range(func(key, _ any) bool {
		t.Errorf("a request failed: %v", key)
		return true
	})
	if answered.Load() != sent.Load() {
		t.Errorf("requests: answered %d of %d", answered.Load(), sent.Load())
	}
	if _, _, err := get(t.Context(), probe, health[0]); err == nil {
		t.Error("the first replica still answers")
	}
}

// A client may be sending on a connection that looks idle to us: it is answered
// there, and told to leave.
func TestDrainLeavesIdleConnectionsAlone(t *testing.T) {
	ready, web := &Readiness{}, listen(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	end := make(chan error, 1)
	go func() {
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "done") })
		end <- Run(ctx, Drain{Ready: ready, Delay: 2 * time.Second, Timeout: time.Minute}, &Server{Name: "web", Listener: web, Handler: handler})
	}()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", web.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, closes := range []bool{false, true} {
		if closes {
			stop()
			await(t, "unready", func() bool { return ready.Check() != nil })
		}
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: quorate\r\nContent-Length: 0\r\n\r\n")
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("closing %t: %v", closes, err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.Close != closes {
			t.Errorf("got status %d and close %t, want 200 and %t", answer.StatusCode, answer.Close, closes)
		}
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	r := &Readiness{}
	if err := r.Check(); err != nil {
		t.Errorf("without checks: %v", err)
	}
	synced := errors.New("waiting for pods")
	r.Add("caches", func() error { return synced })
	r.Add("certificate", func() error { return errors.New("none yet") })
	want := "caches: waiting for pods; certificate: none yet"
	if got := fmt.Sprint(r.Check()); got != want {
		t.Errorf("not ready: got %s, want %s", got, want)
	}
	r.Drain()
	if got := r.Check(); !errors.Is(got, errDraining) {
		t.Errorf("draining: got %v", got)
	}
}

// A process that hangs answers no liveness probe, so that it is started anew.
func TestHealthAsksWhetherTheProcessWorks(t *testing.T) {
	ready, asked := &Readiness{}, 0
	mux := HealthMux(func() { asked++ }, ready)
	for path, want := range map[string]int{"/healthz": 1, "/livez": 1, "/readyz": 0} {
		asked = 0
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if answer.Code != http.StatusOK || asked != want {
			t.Errorf("%s: got %d, asked %d times, want 200 and %d", path, answer.Code, asked, want)
		}
	}
}

// A server that can't go on ends all of them, and says which.
func TestFailureOfOneEndsAll(t *testing.T) {
	broken, good := listen(t), listen(t)
	ready := &Readiness{}
	_ = broken.Close()
	err := Run(t.Context(), Drain{Ready: ready, Delay: time.Hour, Timeout: time.Minute},
		&Server{Name: "broken", Listener: broken, Handler: http.NotFoundHandler()},
		&Server{Name: "good", Listener: good, Handler: http.NotFoundHandler()})
	if err == nil || !strings.Contains(err.Error(), "serve broken: ") {
		t.Errorf("error: got %v, want one that names the server", err)
	}
	if ready.Check() == nil {
		t.Error("still ready")
	}
}

// A client that could speak HTTP/2 is answered as an API server is that calls a Service.
func TestOneProtocolIsSpoken(t *testing.T) {
	web := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	made := httptest.NewTLSServer(http.NotFoundHandler())
	defer made.Close()
	end := make(chan error, 1)
	go func() {
		end <- Run(ctx, Drain{Timeout: time.Minute}, &Server{
			Name: "web", Listener: web, Handler: http.NotFoundHandler(),
			TLS: &tls.Config{Certificates: made.TLS.Certificates, MinVersion: tls.VersionTLS12},
		})
	}()
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"},
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", web.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("protocol: got %s, want http/1.1", got)
	}
	conn.Close()
	stop()
	if err := <-end; err != nil {
		t.Error(err)
	}
}
