// Package deploy is what a cluster applies, as files: one source for kubectl, for
// the tests, and for the running process, which compares the cluster with it.
package deploy

import "embed"

// Files is this folder.
//
//go:embed base components examples
var Files embed.FS

// Names that the base gives.
const (
	// Namespace of everything that is ours.
	Namespace = "quorate-system"
	// GuardLabel is the label, with the value "enabled", of the namespaces whose
	// requests are judged, and whose member pods request quorate.io/voter.
	GuardLabel = "quorate.io/guard"
)

// Webhook configurations, and the CRD.
const (
	ValidatingWebhooks = "base/webhook/validating.yaml"
	MutatingWebhooks   = "base/webhook/mutating.yaml"
	EnsembleCRD        = "base/crd/quorate.io_ensembles.yaml"
	// VoterPolicy puts the request quorate.io/voter on member pods of labelled namespaces.
	VoterPolicy = "components/voter-policy/policy.yaml"
	// SchedulerConfiguration is a ConfigMap with the scheduler's side, scheduler.yaml.
	SchedulerConfiguration = "components/scheduler/configuration.yaml"
)
