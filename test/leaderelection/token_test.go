package leaderelection

import (
	"context"
	"testing"
	"time"

	lock "github.com/quorate/quorate/leaderelection"
)

// P13: go-zookeeper tells no zxid, and nothing of a node that it created. The token is
// the czxid of the owner node all the same, for the first leader, whose acquire creates
// the record, and for those after it.
func TestTokenIsThatOfTheOwnerNode(t *testing.T) {
	together(t)
	s, last := session(t, ensembles.get(t).Connect()), int64(0)
	for _, record := range []string{"created", "updated"} {
		err := lock.Run(t.Context(), lock.Config{
			Session: s, Namespace: "lab", Name: "token", Identity: record, StopTime: stopTime,
			LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
		}, lock.Callbacks{OnStartedLeading: func(ctx context.Context) {
			term := lock.TermFrom(ctx)
			e, err := s.Election(ctx, "lab", "token")
			if err != nil || e.Token != term.Token() {
				t.Errorf("%s: got token %d, %v, want the owner's czxid %d", record, term.Token(), err, e.Token)
			}
			if term.Token() <= last {
				t.Errorf("%s: got token %d after %d", record, term.Token(), last)
			}
			last = term.Token()
		}})
		if err != nil {
			t.Errorf("%s: %v", record, err)
		}
	}
}
