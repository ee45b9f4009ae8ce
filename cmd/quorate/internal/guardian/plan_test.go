package guardian

import (
	"testing"

	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	type step struct {
		do  func(*plan)
		now int64
		act act
	}
	feed := func(now, deadline int64) func(*plan) { return func(p *plan) { p.feed(now, deadline) } }
	nothing := func(*plan) {}
	for name, steps := range map[string][]step{
		"fed in time it lives": {
			{feed(0, 100), 10, wait}, {feed(50, 150), 89, wait}, {feed(90, 190), 110, wait},
		},
		"unfed it is asked to end, then killed": {
			{feed(0, 100), 10, wait}, {nothing, 80, terminate}, {nothing, 81, wait}, {nothing, 100, kill},
		},
		"a message after the deadline changes nothing": {
			{feed(0, 100), 10, wait}, {feed(100, 500), 101, kill}, {feed(102, 900), 103, kill},
		},
		"one that was asked to end is not spared by a later deadline": {
			{feed(0, 100), 10, wait}, {nothing, 80, terminate}, {feed(85, 500), 99, wait}, {nothing, 100, kill},
		},
		"a late guardian kills without asking": {{feed(0, 100), 200, kill}},
		"a stop gives the grace": {
			{feed(0, 100), 10, wait}, {func(p *plan) { p.stop(10) }, 10, terminate}, {nothing, 29, wait}, {nothing, 30, kill},
		},
		"a stop never gives more than the deadline": {
			{feed(0, 100), 10, wait}, {func(p *plan) { p.stop(95) }, 95, terminate}, {nothing, 100, kill},
		},
		"an orphan is killed at once": {{feed(0, 100), 10, wait}, {(*plan).end, 11, kill}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan{grace: 20, deadline: 1}
			for i, s := range steps {
				s.do(p)
				if got, _ := p.next(s.now); got != s.act {
					t.Errorf("step %d at %d: got %d, want %d", i, s.now, got, s.act)
				}
			}
		})
	}
}

func TestPlanWithoutDeadlineKills(t *testing.T) {
	if got, _ := new(plan).next(1); got != kill {
		t.Errorf("got %d, want kill", got)
	}
}

// Whatever is fed in whatever order, once a deadline has passed unheeded the
// command is killed and stays so; and waking up when told to is enough to kill by
// the deadline.
func TestPlanNeverOutlivesADeadline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &plan{grace: rapid.Int64Range(0, 50).Draw(t, "grace"), deadline: 100}
		now, dead := int64(0), false
		for range 30 {
			last := p.deadline
			now += rapid.Int64Range(0, 60).Draw(t, "later")
			dead = dead || now >= last
			if rapid.Bool().Draw(t, "fed") {
				p.feed(now, now+rapid.Int64Range(-50, 200).Draw(t, "deadline"))
			}
			did, wake := p.next(now)
			if dead && did != kill {
				t.Fatalf("at %d, after the deadline %d: got %d, want kill", now, last, did)
			}
			if did == wait && now+int64(wake) > p.deadline {
				t.Fatalf("at %d: sleeps until %d, past the deadline %d", now, now+int64(wake), p.deadline)
			}
		}
	})
}
