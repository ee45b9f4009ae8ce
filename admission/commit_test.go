package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// unlucky writes of one Ensemble fail as told.
type unlucky struct {
	*world
	name string
	err  error
}

func (u *unlucky) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if e.Name == u.name {
		return u.err
	}
	return u.world.UpdateStatus(ctx, e)
}

// A pod in two Ensembles needs a yes of both, written in the order of their uids.
// Where the second can't be written, the first is taken back, and the answer is no.
func TestTwoEnsembles(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Outcome
	}{
		"both written":       {nil, AllowSafe},
		"not known whether":  {errors.New("connection reset by peer"), DenyUnsure},
		"not allowed to":     {apierrors.NewForbidden(ensemblesResource, "zk-two", nil), DenyError},
		"always a conflict":  {apierrors.NewConflict(ensemblesResource, "zk-two", nil), DenyContention},
		"nothing of the API": {context.DeadlineExceeded, DenyUnsure},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 3, 0)
			w.calm = true
			defer w.end()
			w.makeArmed("zk-two")
			cluster := Cluster(w)
			if c.err != nil {
				cluster = &unlucky{w, "zk-two", c.err}
			}
			g, err := New(Config{Cluster: cluster, Examiner: w, Deadline: 1_500_000_000})
			if err != nil {
				t.Fatal(err)
			}
			d := g.Judge(t.Context(), Request{UID: "r", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: w.pods["zk-0"].uid})
			if d.Outcome == DenyUnsure && c.want == DenyContention {
				d.Outcome = DenyContention // there was no time left to begin another write
			}
			if d.Outcome != c.want {
				t.Errorf("got %s: %s, want %s", d.Outcome, d.Message, c.want)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			got := fmt.Sprint(len(w.ensembles["zk"].Status.Grants), len(w.ensembles["zk-two"].Status.Grants))
			want := "0 0"
			if c.err == nil {
				want = "1 1"
			}
			if got != want {
				t.Errorf("got %s grants, want %s", got, want)
			}
		})
	}
}

// ordered notes whose status is written.
type ordered struct {
	*world
	written []string
}

func (o *ordered) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	o.written = append(o.written, e.Name)
	return o.world.UpdateStatus(ctx, e)
}

// The order of the writes is that of the uids, whatever that of the list: of two requests
// for the same Ensembles, one is through with both before the other has one.
func TestWritesGoByUID(t *testing.T) {
	for name, c := range map[string]struct{ first, second types.UID }{
		"as listed":           {"a", "b"},
		"the other way round": {"b", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 3, 0)
			w.calm = true
			defer w.end()
			w.makeEnsemble("zk-two")
			for name, uid := range map[string]types.UID{"zk": c.first, "zk-two": c.second} {
				w.ensembles[name].UID, w.ensembles[name].Status.Guard = uid, &v1alpha1.GuardStatus{UID: string(uid), Armed: true}
			}
			o := &ordered{world: w}
			g, err := New(Config{Cluster: o, Examiner: w})
			if err != nil {
				t.Fatal(err)
			}
			d := g.Judge(t.Context(), Request{UID: "r", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: w.pods["zk-0"].uid})
			want := []string{"zk", "zk-two"}
			if c.second < c.first {
				slices.Reverse(want)
			}
			if !slices.Equal(o.written, want) {
				t.Errorf("got %s (%s) and the writes %v, want %v", d.Outcome, d.Message, o.written, want)
			}
		})
	}
}

// Only the latest yes is taken back, by who was to say it: an earlier one was said, and one
// that came later stands on its own.
func TestWithdraw(t *testing.T) {
	for name, c := range map[string]struct {
		yeses, left []string
		changed     bool
	}{
		"mine alone":                   {[]string{"mine"}, nil, true},
		"mine after another's":         {[]string{"theirs", "mine"}, []string{"theirs"}, true},
		"mine before another's":        {[]string{"mine", "theirs"}, []string{"mine", "theirs"}, false},
		"another's":                    {[]string{"theirs"}, []string{"theirs"}, false},
		"mine is not that of this pod": {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := []v1alpha1.Grant{{PodUID: "other", RequestUIDs: []string{"mine"}}}
			if c.yeses != nil {
				before = append(before, v1alpha1.Grant{PodUID: "pod", RequestUIDs: c.yeses})
			}
			after, changed := Withdraw(before, "pod", "mine")
			var left []string
			if k := indexOf(after, "pod"); k >= 0 {
				left = after[k].RequestUIDs
			}
			if changed != c.changed || !slices.Equal(left, c.left) || indexOf(after, "other") < 0 {
				t.Errorf("got changed=%t and %v of %v, want %t and %v", changed, left, after, c.changed, c.left)
			}
		})
	}
}

// mired is a world whose API server answers nothing more after so many writes, until who
// asked gives up.
type mired struct {
	*world
	writes int
}

func (m *mired) Ensembles(ctx context.Context, namespace string) ([]v1alpha1.Ensemble, error) {
	if m.writes <= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.world.Ensembles(ctx, namespace)
}

func (m *mired) UpdateStatus(ctx context.Context, e *v1alpha1.Ensemble) error {
	if m.writes--; m.writes < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.world.UpdateStatus(ctx, e)
}

// What is taken back is no reason for an answer that nobody waits for any more.
func TestWithdrawalLeavesTimeToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 0)
		w.calm = true
		defer w.end()
		w.makeArmed("zk-two")
		g, err := New(Config{Cluster: &mired{w, 1}, Examiner: w})
		if err != nil {
			t.Fatal(err)
		}
		o := &office{world: w, mux: http.NewServeMux()}
		g.Register(muxOf{o.mux})
		began := time.Now()
		got := o.review(t, ValidatePath, evict("zk-0", fmt.Sprintf(`{"deleteOptions":{"preconditions":{"uid":%q}}}`, w.pods["zk-0"].uid)))
		if took := time.Since(began); got.Result.Code != http.StatusTooManyRequests || took >= 5*time.Second {
			t.Errorf("got %d (%s) after %v, want 429 before the 5 s for which the API server waits", got.Result.Code, got.Result.Message, took)
		}
		if grants := o.grantsOf(); len(grants) != 1 {
			t.Errorf("got the grants %q, want the one that could not be taken back", grants)
		}
	})
}

// What the answer rests on cannot be read, or time is up: no, and quickly.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, 1, 3, 0)
	w.calm = true
	defer w.end()
	g, err := New(Config{Cluster: w, Examiner: w})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := g.Judge(ctx, Request{UID: "r", Verb: Evict, Namespace: "data", Name: "zk-0", PodUID: w.pods["zk-0"].uid})
	if d.Outcome != DenyError || d.Code() != 429 {
		t.Errorf("got %s %d, want %s 429", d.Outcome, d.Code(), DenyError)
	}
	if d := (Decision{}); d.Outcome.Allowed() || d.Code() != 429 {
		t.Errorf("got %d of the zero decision, want 429", d.Code())
	}
}
