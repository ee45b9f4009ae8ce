package zookeeper

import (
	"errors"

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
	// ErrReadOnly means that only servers without a quorum answered.
	ErrReadOnly = errors.New("server is read-only: it has lost its quorum")

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
