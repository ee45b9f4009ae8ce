// Package certs is what the webhook serves TLS with: certificates of our own that
// are made, rotated and injected without a hand (Rotator), or somebody else's files
// (Files).
//
// A rotation drops no request. The secret holds a bundle of CAs, the newest first.
// A new CA is trusted before it is used: it goes into the bundle, the bundle into
// every caBundle, and only after it was seen there for the propagation time is a
// certificate by it served. A replica is ready once the bundle is in for the first time.
// Its predecessor stays in the bundle until it expires, so that a replica which still
// serves the old certificate is believed. cert-controller makes and checks the
// certificates; its own rotation is not used, because it exchanges CA and certificate
// at once, and needs to list every Secret of the namespace.
//
// All replicas rotate alike, by compare-and-swap on the Secret and on the
// configurations; a configuration is read before the Secret whose bundle is written
// into it, so that no replica can bring an old bundle back.
//
// Not promised: that a CA which leaked is distrusted by itself. Remove ca.crt and
// ca.key from the Secret; the next look makes new ones, and an unreachable moment, for
// as long as API servers take to hear of them, is the price.
package certs
