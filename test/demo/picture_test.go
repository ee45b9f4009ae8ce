package main

import (
	"strings"
	"testing"
)

func TestPictureShowsEveryVoterWhereItIs(t *testing.T) {
	got := picture{
		zones: []zone{
			{name: "zone a", hosts: []host{{name: "a1", voters: []voter{{name: "zk-0", role: "leader", health: synced}}}, {name: "a2"}}},
			{name: "zone b", lost: true, hosts: []host{{name: "b1", lost: true, voters: []voter{{name: "zk-1", health: gone}}}}},
		},
		waiting: []voter{{name: "zk-2", health: waiting}},
		caption: "2 voters",
	}.render()
	for _, want := range []string{"● zk-0 leader", "zone b  LOST", "✗ zk-1", "b1 (cordoned)", "waiting: ◌ zk-2", "2 voters"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	first := strings.Split(got, "\n")[1]
	if !strings.Contains(first, "zone a") || !strings.Contains(first, "zone b") {
		t.Errorf("got %q, want both zones beside each other", first)
	}
}

func TestFrameReplacesTheOneBefore(t *testing.T) {
	var out strings.Builder
	s := &screen{out: &out, live: true}
	s.frame("one\ntwo")
	s.frame("three")
	if got, want := out.String(), "one\ntwo\n\x1b[2A\x1b[Jthree\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
