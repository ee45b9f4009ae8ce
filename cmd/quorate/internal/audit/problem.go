package audit

import "fmt"

// Check is what a Problem is about: the value of a metric's label.
type Check string

// The checks.
const (
	Missing           Check = "missing"
	FailurePolicy     Check = "failure-policy"
	ObjectSelector    Check = "object-selector"
	NamespaceSelector Check = "namespace-selector"
	Rules             Check = "rules"
	MatchConditions   Check = "match-conditions"
	MatchPolicy       Check = "match-policy"
	Timeout           Check = "timeout"
	Authority         Check = "ca-bundle"
	Schema            Check = "crd"
	SchedulerConfig   Check = "scheduler-configuration"
	Unreadable        Check = "unreadable"
)

// Checks are all of them, so that a metric can show those that found nothing.
var Checks = []Check{
	Missing, FailurePolicy, ObjectSelector, NamespaceSelector, Rules, MatchConditions, MatchPolicy, Timeout,
	Authority, Schema, SchedulerConfig, Unreadable,
}

// Problem is one thing that is not as it should be.
type Problem struct {
	// Check that found it.
	Check Check
	// Object that it is about, e.g. ValidatingWebhookConfiguration/quorate-guard.
	Object string
	// Message says what it costs, and the way out.
	Message string
}

// String is the problem in one line.
func (p Problem) String() string { return p.Object + ": " + p.Message }

func problem(check Check, object, format string, args ...any) Problem {
	return Problem{Check: check, Object: object, Message: fmt.Sprintf(format, args...)}
}
