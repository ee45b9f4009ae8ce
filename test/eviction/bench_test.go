package eviction

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/bench"
)

// BenchmarkEviction measures what the guard adds to an eviction: five live members
// are asked each time. The evictions are dry runs, judged alike but for the write of
// the grant, so that the members stay.
func BenchmarkEviction(b *testing.B) {
	r := newRig(b)
	rates := []int{1, 10, 50}
	var without, with [][]time.Duration
	for _, rate := range rates {
		without = append(without, r.evictions(b, rate))
	}
	r.guard(b, 2, 0)
	for _, rate := range rates {
		with = append(with, r.evictions(b, rate))
	}
	for i, rate := range rates {
		for _, q := range []int{50, 99} {
			bench.Record(b, fmt.Sprintf("eviction with the guard at %d/s, p%d", rate, q),
				milliseconds(with[i], q), "ms", "the same without it", milliseconds(without[i], q))
		}
	}
	b.ReportMetric(milliseconds(with[0], 50), "ms/eviction")
}

// evictions asks at a rate for five seconds, and returns how long each took.
func (r *rig) evictions(b *testing.B, rate int) []time.Duration {
	b.Helper()
	var mu sync.Mutex // guards took, failed and refused
	refused := 0
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
			if failed != nil {
				b.Fatal(failed)
			}
			b.Logf("at %d/s %d of %d were refused", rate, refused, len(took))
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
				failed = err
			}
		})
	}
}

// milliseconds of the q-th percentile.
func milliseconds(took []time.Duration, q int) float64 {
	slices.Sort(took)
	return float64(took[(len(took)-1)*q/100].Microseconds()) / 1000
}
