package quorum

// Verdict is the outcome of losing voters. The zero value is Unknown, so that a
// caller who forgets to look denies.
type Verdict uint8

// The three verdicts.
const (
	Unknown Verdict = iota // what was seen does not settle it
	Safe                   // a quorum remains however the unseen voters are
	Unsafe                 // no quorum remains however the unseen voters are
)

// String is the verdict in one word.
func (v Verdict) String() string {
	switch v {
	case Safe:
		return "Safe"
	case Unsafe:
		return "Unsafe"
	default:
		return "Unknown"
	}
}
