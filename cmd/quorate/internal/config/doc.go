// Package config is the configuration of `quorate serve`: QuorateConfiguration,
// config.quorate.io/v1alpha1, one YAML document that lives in a ConfigMap.
//
// Decoding is strict, and every problem is told at once, each with its line, its
// field and the way out: a misspelt safety switch must never be taken for absent.
// What is absent has its default.
//
// A Source reads the file again when it changes. A file that is wrong changes
// nothing: what was in force stays, and the problem is logged and shown as a metric.
// What can't be changed in a running process is reported as waiting for a restart.
//
// Not promised: that all replicas see a change at the same moment. Whoever applies
// one must be right whatever the others have read.
package config
