// Package probe asks the members of an ensemble how they are, and judges what
// they said.
//
// One Prober per kind of server asks one member and returns an Answer: what that
// member said of itself and, if it leads, of the others. Ask does so for all
// members at once. Judge is pure: it makes one View of all answers, with a health
// and a reason for each member, and the quorum.System that the ensemble itself
// says it runs. View.Without is the question that the guard asks.
//
// Not promised: that a View is true now. It is what was said while the answers
// were taken, each of which carries its time; a server may stop the moment after.
// A leader takes tickTime x syncLimit to miss a follower (View.Settle), and counts its
// followers without naming them (View.Doubt).
//
// ZooKeeper 3.8 is tried live, and by answers that running servers gave; what 3.5,
// 3.6, 3.7, 3.9 and 3.10 answer is made from their sources (testdata/zookeeper says so
// in each file), and no server of theirs was asked.
//
// Three values everywhere: what was not heard is Unseen, neither up nor down, and
// whatever is garbled, slow, too long, contradictory or too old was not heard. No
// leader, or two, makes the whole view Unknown.
package probe
