package bench

import (
	"testing"
	"time"

	"github.com/quorate/quorate/ensemble/quorum"
)

// BenchmarkQuorum asks what the hot paths ask of seven voters: which answer takes the
// longest, beside the bound. That none allocates is a test of the package itself.
func BenchmarkQuorum(b *testing.B) {
	weighted := make([]quorum.Member, 7)
	for i := range weighted {
		weighted[i] = quorum.Member{Server: i, Group: []string{"a", "b", "c"}[i%3], Weight: uint64(1 + i%2)}
	}
	groups, err := quorum.Hierarchical(weighted)
	if err != nil {
		b.Fatal(err)
	}
	majority := quorum.Majority(quorum.First(7))
	domains := []quorum.Set{quorum.SetOf(0, 1, 2), quorum.SetOf(3, 4, 5, 6)}
	for _, s := range []struct {
		name string
		quorum.System
	}{
		{"majority", majority}, {"weights in groups", groups}, {"joint configuration", quorum.Joint(majority, quorum.Majority(quorum.First(5)))},
	} {
		for _, question := range []struct {
			name string
			ask  func() int
		}{
			{"a quorum without these", func() int {
				return int(s.Without(quorum.SetOf(1), quorum.SetOf(0, 1, 2, 3, 4), quorum.SetOf(5)))
			}},
			{"how many more may go", func() int { return s.Spare(quorum.First(7)) }},
			{"fatal domains", func() (fatal int) {
				for range s.Fatal(domains) {
					fatal++
				}
				return fatal
			}},
		} {
			b.Run(s.name+"/"+question.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					question.ask()
				}
				each := b.Elapsed() / time.Duration(b.N)
				Record(b, "quorum of 7, "+s.name+": "+question.name, float64(each.Nanoseconds()), "ns", "bound", 200)
			})
		}
	}
}
