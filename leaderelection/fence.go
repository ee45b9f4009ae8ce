package leaderelection

import (
	"fmt"
	"net/http"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Fence returns the operations that make a ZooKeeper multi of the leader's own, which
// begins with them, fail once another term has begun. They check the term's claim,
// which no other term has, and that the record is as the term's acquire left it, which
// the next acquire changes: an administrator who deletes the owner node alone leaves
// the claim. The multi may be made through any session. An administrator who deletes the
// claim or writes the record makes all of them fail until the next term.
func (t *Term) Fence() []zookeeper.Op {
	return []zookeeper.Op{
		&zookeeper.Check{Path: t.lock.layout.claim(t.claim), Version: zookeeper.AnyVersion},
		&zookeeper.Check{Path: t.lock.layout.record, Version: t.recordVersion()},
	}
}

// FencedTransport is a http.RoundTripper that refuses to send once a term is over,
// for clients whose writes must be the leader's. What it let pass may still arrive
// after the term: bound requests by the work's context, and the stop time above
// them.
type FencedTransport struct {
	// Term whose leader the client acts for.
	Term *Term
	// Base that sends. Default: http.DefaultTransport.
	Base http.RoundTripper
	// Reads are let pass after the term, too: GET, HEAD and OPTIONS.
	Reads bool
}

// RoundTrip sends a request while the term lasts.
func (f *FencedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := f.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if f.Reads && isRead(req.Method) {
		return base.RoundTrip(req)
	}
	if err := f.Term.Valid(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	return base.RoundTrip(req)
}

func isRead(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
