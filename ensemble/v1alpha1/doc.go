// Package v1alpha1 is the Ensemble API: one object beside a StatefulSet says
// which pods are members of one ensemble, how it counts its quorum, which
// failure domains must never hold a fatal share of its voters, how its live
// health is asked for, and how many losses an eviction must leave survivable.
//
// The schema in deploy/base/crd is generated from these types; what can be
// refused is refused there, at apply time, with a message that names the field
// and the fix. The package promises compatibility as any v1alpha1 API does: none
// across versions, stored objects apart.
//
// +kubebuilder:object:generate=true
// +groupName=quorate.io
package v1alpha1
