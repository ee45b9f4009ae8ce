// Package audit answers one question: is what the cluster holds of us as it should
// be? A guard that somebody switched off by one field (failurePolicy: Ignore, an
// objectSelector, a rule less) looks healthy and guards nothing.
//
// Webhooks, Definition and Scheduler are pure: they compare what is there with what
// deploy/ holds, and return one Problem for each thing that weakens a promise, or
// that blocks somebody who must never be blocked. What is stricter, or only other
// (names, labels, a URL instead of a Service), is no problem.
//
// An Auditor looks from time to time, and tells it in four ways: a metric, one log
// line when it begins and one when it ends, an Event on the webhook configuration,
// and the condition Guarded on every Ensemble.
//
// Not promised: that a change is seen before it was used. Who may write webhook
// configurations may do anything in a cluster.
package audit
