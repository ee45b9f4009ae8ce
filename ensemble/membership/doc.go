// Package membership turns pods, StatefulSets, volumes and nodes into ensembles:
// who their members are, which of them vote, and which failure domains each
// occupies at each level. The result is an immutable Snapshot.
package membership
