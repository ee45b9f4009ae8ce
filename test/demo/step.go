package main

import "context"

// step is one part of the story. run shows what the title claims, and fails if it
// does not hold: a demo that only prints proves nothing.
type step struct {
	title string
	run   func(ctx context.Context, s *stage) error
}

// story is all steps, in order. Each finds what it needs on the stage that the ones
// before it left.
func story() []step {
	return []step{
		{"ZooKeeper alone: five servers, one quorum", quorumAlone},
		{"A cluster on this machine: three zones, and a scheduler that asks", startCluster},
		{"Placement: no zone ever holds a majority", placeSafely},
		{"The guard: it gets to know the ensemble", startGuard},
		{"The same with topologySpreadConstraints", placeBySpread},
		{"A zone is lost, and comes back", loseZone},
		{"The zone with the majority is lost", loseMajority},
		{"Asking for the impossible: two zones", askTheImpossible},
		{"Leader election: three controller managers, one at a time", electManagers},
		{"Draining nodes: no eviction breaks the quorum", drainSafely},
	}
}
