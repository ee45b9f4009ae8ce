package eviction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/bench"
)

// BenchmarkEviction measures what the guard adds to an eviction: five live members
// are asked. At a rate the evictions are dry runs, judged alike but for the write of
// the grant, so that the members stay; one after the other they are real.
func BenchmarkEviction(b *testing.B) {
	r := newRig(b)
	rates := []int{1, 10, 50}
	var without, with [][]time.Duration
	for _, rate := range rates {
		without = append(without, r.evictions(b, rate))
	}
	free := r.evictEach(b)
	r.guard(b, 2, 0)
	var rounds []float64
	for _, rate := range rates {
		began := len(r.said(b, roundBegun))
		with = append(with, r.evictions(b, rate))
		rounds = append(rounds, float64(len(r.said(b, roundBegun))-began))
	}
	granted := r.evictEach(b)
	bench.Record(b, "eviction with its grant written, one at a time, p50", milliseconds(granted, 50), "ms", "the same without the guard", milliseconds(free, 50))
	for i, rate := range rates {
		bench.Record(b, fmt.Sprintf("rounds of probes of 5 members at %d evictions/s", rate), rounds[i], "rounds", "one for each eviction", float64(len(with[i])))
	}
	for i, rate := range rates {
		for _, q := range []int{50, 99} {
			bench.Record(b, fmt.Sprintf("eviction with the guard at %d/s, p%d", rate, q),
				milliseconds(with[i], q), "ms", "the same without it", milliseconds(without[i], q))
		}
	}
	b.ReportMetric(milliseconds(with[0], 50), "ms/eviction")
}

// evictions asks at a rate for five seconds, and returns how long each took. An answer
// that never came fails the benchmark, once all of it is measured.
func (r *rig) evictions(b *testing.B, rate int) []time.Duration {
	b.Helper()
	var mu sync.Mutex // guards what follows
	refused, unanswered := 0, 0
	var took []time.Duration
	var failed error
	var wait sync.WaitGroup
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			wait.Wait()
			b.Logf("at %d/s %d of %d were refused", rate, refused, len(took))
			if failed != nil {
				b.Errorf("at %d/s %d got no answer, the last for: %v", rate, unanswered, failed)
			}
			return took
		case <-tick.C:
		}
		wait.Go(func() {
			began := time.Now()
			err := r.plane.Client.PolicyV1().Evictions(namespace).Evict(b.Context(), &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("zk-%d", n%voters)},
				DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
			})
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			switch {
			case apierrors.IsTooManyRequests(err): // an answer too, though a late probe cost it the yes
				refused++
			case err != nil:
				unanswered++
				failed = err
			}
		})
	}
}

// evictEach evicts every member once, for real, each when all are back.
func (r *rig) evictEach(b *testing.B) (took []time.Duration) {
	b.Helper()
	for i := range voters {
		uid := r.pod(b, i).UID
		r.await(b, "the eviction to be allowed", func(ctx context.Context) error {
			began := time.Now()
			err := r.plane.Client.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("zk-%d", i)},
				DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
			})
			if err == nil {
				took = append(took, time.Since(began))
			}
			return err
		})
		r.await(b, "its member to be back", func(ctx context.Context) error {
			if p, err := r.plane.Client.CoreV1().Pods(namespace).Get(ctx, fmt.Sprintf("zk-%d", i), metav1.GetOptions{}); err != nil || p.UID == uid {
				return errors.Join(err, errors.New("the old one is there"))
			}
			return r.ready(ctx)
		})
	}
	return took
}

// milliseconds of the q-th percentile.
func milliseconds(took []time.Duration, q int) float64 {
	slices.Sort(took)
	return float64(took[(len(took)-1)*q/100].Microseconds()) / 1000
}

// BenchmarkDrain measures how long it takes to drain all five nodes of five live
// members, one after the other and all at once, beside a PodDisruptionBudget alone
// (maxUnavailable 1, ready is who serves), and what the guard writes for it.
func BenchmarkDrain(b *testing.B) {
	r := newRig(b)
	r.budget(b, 1)
	alone := r.drains(b)
	r.kubectl(b, "delete", "pdb", "zk", "-n", namespace)
	r.guard(b, 2, 0)
	judged, writes := r.yeses(b), r.writes(b)
	guarded := r.drains(b)
	for i, how := range []string{"one after the other", "all at once"} {
		bench.Record(b, "drain of 5 nodes, "+how, guarded[i].Seconds(), "s", "a PodDisruptionBudget alone", alone[i].Seconds())
	}
	bench.Record(b, "API writes of the guard", r.writes(b)-writes, "writes", "evictions allowed", r.yeses(b)-judged)
	b.ReportMetric(guarded[0].Seconds(), "s/5-drains")
}

// drains drains all nodes both ways, and returns how long each took.
func (r *rig) drains(b *testing.B) (took [2]time.Duration) {
	b.Helper()
	ctx := b.Context()
	for i := range took {
		nodes := r.nodes(b)
		var drains errgroup.Group
		drains.SetLimit([]int{1, len(nodes)}[i])
		began := time.Now()
		for _, node := range nodes {
			drains.Go(func() error {
				_, err := r.plane.Kubectl(ctx, "drain", node, "--timeout=10m")
				return err
			})
		}
		if err := drains.Wait(); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began)
		r.kubectl(b, append([]string{"uncordon"}, nodes...)...)
		r.await(b, "all members to be ready", r.ready)
	}
	return took
}

// yeses is how many evictions the replicas allowed so far.
func (r *rig) yeses(b *testing.B) (n float64) {
	b.Helper()
	for _, line := range r.judged(b) {
		if (strings.Contains(line, `outcome="allow-safe"`) || strings.Contains(line, `outcome="allow-repeat"`)) && strings.Contains(line, "dryRun=false") {
			n++
		}
	}
	return n
}

// writes is how many times the API server was asked to write an Ensemble's status.
func (r *rig) writes(b *testing.B) (n float64) {
	b.Helper()
	text, err := r.plane.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `resource="ensembles"`) &&
			strings.Contains(line, `subresource="status"`) && strings.Contains(line, `verb="PUT"`) {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			if err != nil {
				b.Fatal(err)
			}
			n += value
		}
	}
	return n
}
