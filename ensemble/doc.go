// Package ensemble is the house's one idea of what an ensemble is; the rooms are
// quorum (the arithmetic), v1alpha1 (the API), membership (pods, volumes and nodes
// as members and failure domains) and probe (live health). It imports nothing else
// of ours.
package ensemble
