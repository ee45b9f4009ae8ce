package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
)

// Through client-go's own recorder, whose series keep their first note: every
// refusal is told with a note that is true of it, and the same refusal again is
// counted.
func TestEventsTellWhatIsTrue(t *testing.T) {
	client := fake.NewClientset()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := newOffice(t)
	recorder := broadcaster.NewRecorder(clientgoscheme.Scheme, "quorate")
	g, err := New(Config{Cluster: o.world, Examiner: o.world, Events: recorder})
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(name string) {
		t.Helper()
		r := Request{UID: fmt.Sprintf("r%d", o.next()), Verb: Evict, Namespace: "data", Name: name, User: "ada", PodUID: o.pods[name].uid}
		d := g.Judge(t.Context(), r)
		if d.Outcome.Allowed() {
			t.Fatalf("got %s for %s, want it refused", d.Outcome, name)
		}
		g.tell(&r, &d)
	}
	lose := func(name string) { // for good
		o.mu.Lock()
		defer o.mu.Unlock()
		o.pods[name].running, o.pods[name].proc = false, &process{}
		o.rv++ // the status controller writes what it sees
		o.ensembles["zk"].ResourceVersion = fmt.Sprint(o.rv)
	}

	lose("zk-1")
	refuse("zk-0")
	one := awaitEvents(t, client, 1, 1)[0]
	if one.Type != "Warning" || one.Reason != "DisruptionDenied" || !strings.Contains(one.Note, "evict zk-0 for ada: ") || !strings.Contains(one.Note, "zk-1 does not run") {
		t.Errorf("got the event %s %s %q", one.Type, one.Reason, one.Note)
	}
	if r := one.Related; r == nil || r.Kind != "Pod" || r.Name != "zk-0" || string(r.UID) != string(o.pods["zk-0"].uid) {
		t.Errorf("got the related object %+v, want the pod zk-0", r)
	}
	refuse("zk-0")
	if two := awaitEvents(t, client, 1, 2)[0]; two.Note != one.Note {
		t.Errorf("got the note %q of the series, want %q", two.Note, one.Note)
	}
	for range 50 {
		refuse("zk-0") // is counted, and not written each time
	}
	refuse("zk-2")
	awaitEvents(t, client, 2, 3)
	if n := writes(client); n != 3 {
		t.Errorf("got %d writes of 53 refusals, want two of the series and one of the other", n)
	}
	lose("zk-2")
	refuse("zk-0")
	all := awaitEvents(t, client, 3, 4)
	for _, want := range []string{"evict zk-2 for ada: ", "zk-2 does not run"} {
		if !slices.ContainsFunc(all, func(e eventsv1.Event) bool { return strings.Contains(e.Note, want) }) {
			t.Errorf("got no note that contains %q: %q", want, notes(all))
		}
	}
}

// An Event whose note is longer than the API server takes would be lost.
func TestEventsAreNoLongerThanTaken(t *testing.T) {
	o := newOffice(t)
	g, err := New(Config{Cluster: o.world, Examiner: o.world, Events: o.events})
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Verb: Evict, Namespace: "data", Name: strings.Repeat("n", 253), User: strings.Repeat("u", 5000)}
	g.tell(&r, &Decision{Outcome: DenyUnsafe, Ensemble: "data/zk", Message: "why: " + strings.Repeat("ü", 700)})
	_, note, _ := strings.Cut(o.events.lines[0], "evict: ")
	if len(note) > 1024 || !utf8.ValidString(note) || !strings.Contains(note, ": why: ") {
		t.Errorf("got a note of %d bytes: %q", len(note), note)
	}
}

func writes(client *fake.Clientset) (n int) {
	for _, a := range client.Actions() {
		if a.GetVerb() != "list" {
			n++
		}
	}
	return n
}

func notes(all []eventsv1.Event) (notes []string) {
	for i := range all {
		notes = append(notes, all[i].Note)
	}
	return notes
}

// awaitEvents waits until there are that many events, of that many occurrences.
func awaitEvents(t *testing.T, client *fake.Clientset, n, occurrences int) []eventsv1.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		list, err := client.EventsV1().Events("data").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for i := range list.Items {
			if seen++; list.Items[i].Series != nil {
				seen += int(list.Items[i].Series.Count) - 1
			}
		}
		if len(list.Items) == n && seen == occurrences {
			return list.Items
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("got %d events of %d occurrences, want %d of %d: %q", len(list.Items), seen, n, occurrences, notes(list.Items))
		}
	}
}
