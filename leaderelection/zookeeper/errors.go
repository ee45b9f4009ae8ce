package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-zookeeper/zk"
)

var (
	// ErrUnsure means that a call's outcome is unknown: a write may or may not have
	// been applied.
	ErrUnsure = errors.New("outcome unknown")
	// ErrEnded means that the session is over.
	ErrEnded = errors.New("session is over")
	// ErrNoServer means that no server could be reached; nothing was sent.
	ErrNoServer = errors.New("no server could be reached")
	// ErrReadOnly means that a server answered that has no quorum.
	ErrReadOnly = errors.New("server is read-only: its ensemble has lost its quorum")
	// ErrRefused means that a server hung up on the handshake: it is not serving, has
	// too many connections of this address (maxClientCnxns), or has lost data that
	// the session had seen.
	ErrRefused = errors.New("server refused the session")

	// ErrNoNode means that a node does not exist.
	ErrNoNode = zk.ErrNoNode
	// ErrNodeExists means that a node exists already.
	ErrNodeExists = zk.ErrNodeExists
	// ErrBadVersion means that a node has another version than expected.
	ErrBadVersion = zk.ErrBadVersion
	// ErrNotEmpty means that a node has children.
	ErrNotEmpty = zk.ErrNotEmpty
	// ErrNoAuth means that the session's credentials lack a permission.
	ErrNoAuth = zk.ErrNoAuth
	// ErrAuthFailed means that the server refused the credentials.
	ErrAuthFailed = zk.ErrAuthFailed
	// ErrInvalidACL means that the server refused an access control list, mostly one
	// for the creator of a session without credentials.
	ErrInvalidACL = zk.ErrInvalidACL
)

// definite are answers of a server: the operation was not applied, and why.
var definite = []error{
	zk.ErrNoNode, zk.ErrNodeExists, zk.ErrBadVersion, zk.ErrNotEmpty, zk.ErrNoAuth, zk.ErrAuthFailed,
	zk.ErrInvalidACL, zk.ErrNoChildrenForEphemerals, zk.ErrBadArguments, zk.ErrShortBuffer, zk.ErrInvalidPath,
}

// translate tells an answer from the lack of one. What is not known to be definite
// is unsure.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, zk.ErrNoServer) {
		return ErrNoServer
	}
	if isDefinite(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnsure, err)
}

// abandoned is the error of a call whose caller did not wait for the answer.
func abandoned(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnsure, context.Cause(ctx))
}

func isDefinite(err error) bool {
	return slices.ContainsFunc(definite, func(d error) bool { return errors.Is(err, d) })
}
