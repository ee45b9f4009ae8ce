// Package membership turns pods, StatefulSets, volumes and nodes into ensembles:
// who their members are, which of them vote, and which failure domains each
// occupies at each level. The result is an immutable Snapshot.
//
// A placement is judged twice. Against the live configuration only the members
// count that vote in it (LiveConfig tells); against the declared target all member
// pods count, since one that joins as an observer is promoted later, unless
// spec.observers selects them out. Numbers in between are never judged: enforcing
// them would deadlock every scale-up.
//
// A member counts where its node is, also while it terminates; without a node it
// counts where its volumes pin it to, even when its pod is absent, and where the
// scheduler already said that it goes (nominated node, selected node of its
// claims). A node that is gone leaves the domain that the pod itself still tells.
//
// Not promised: that a Snapshot is true now. It is what the watches said, and they
// lag; what was promised but not yet seen is the caller's to hold. What is not
// known is said (Resolved, Problem) and nothing may be placed on it.
package membership
