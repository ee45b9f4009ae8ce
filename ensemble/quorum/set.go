package quorum

import (
	"iter"
	"math/bits"
)

// MaxVoters is how many servers a Set can tell apart. Ensembles are small: every
// write waits for a majority of them.
const MaxVoters = 64

// Set is a set of servers, numbered from 0 to MaxVoters-1 by whoever makes it.
type Set uint64

// SetOf returns the set of the given servers. It panics on a number that is no
// server's: a silently dropped voter would make a verdict a lie.
func SetOf(servers ...int) Set {
	var s Set
	for _, i := range servers {
		s = s.With(i)
	}
	return s
}

// First returns the set of the servers 0 to n-1.
func First(n int) Set {
	if n < 0 || n > MaxVoters {
		panic("quorum: a set holds 0 to 64 servers")
	}
	if n == MaxVoters {
		return ^Set(0)
	}
	return Set(1)<<n - 1
}

// With returns the set with server i in it. It panics where SetOf does.
func (s Set) With(i int) Set {
	if i < 0 || i >= MaxVoters {
		panic("quorum: a server's number is 0 to 63")
	}
	return s | 1<<i
}

// Has reports whether server i is in the set.
func (s Set) Has(i int) bool { return i >= 0 && i < MaxVoters && s&(1<<i) != 0 }

// Minus returns the servers of s that are not in t.
func (s Set) Minus(t Set) Set { return s &^ t }

// Len is how many servers are in the set.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// Servers yields the numbers in the set, in ascending order.
func (s Set) Servers() iter.Seq[int] {
	return func(yield func(int) bool) {
		for t := s; t != 0; t &= t - 1 {
			if !yield(bits.TrailingZeros64(uint64(t))) {
				return
			}
		}
	}
}
