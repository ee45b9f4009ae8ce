package leaderelection

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// P9: names that are not ours neither count nor hinder.
func TestQueueKnowsItsOwn(t *testing.T) {
	children := []string{
		"owner", "queue-b-0000000012", "claim-0000000001", "lock-0000000000", "queue-", "queue--", "queue-x", "queue-x-", "queue-a-0000000007",
		"_c_0000000000", "queue-c-99999999999", "resign", "queue",
	}
	want := []string{"queue-a-0000000007", "queue-b-0000000012"}
	if got := queueOrder(children); !slices.Equal(got, want) {
		t.Errorf("queue: got %v, want %v", got, want)
	}
}

// Sequence numbers are the server's, have ten digits, and go on below zero when they
// have no more: whoever came first stays first.
func TestQueueKeepsItsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		next := rapid.OneOf(rapid.Int32(), rapid.Int32Range(math.MaxInt32-50, math.MaxInt32), rapid.Int32Range(-50, 50)).Draw(t, "first")
		var came []string
		for range rapid.IntRange(0, 20).Draw(t, "standbys") {
			came = append(came, fmt.Sprintf("queue-1b4e28ba-2fa1-11d2-883f-0016d3cca427-%010d", next))
			next += rapid.Int32Range(1, 10).Draw(t, "others in between")
		}
		children := append([]string{"owner"}, rapid.Permutation(came).Draw(t, "as listed")...)
		if got := queueOrder(children); !slices.Equal(got, came) {
			t.Errorf("order: got %v, want %v", got, came)
		}
	})
}
