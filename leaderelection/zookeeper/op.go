package zookeeper

// AnyVersion of a node will do.
const AnyVersion int32 = -1

// Stat is what a server tells of a node.
type Stat struct {
	// Czxid is the zxid of the transaction that created it.
	Czxid int64
	// Mzxid is the zxid of the transaction that last changed its data.
	Mzxid int64
	// Version of its data.
	Version int32
	// EphemeralOwner is the session that it ends with, 0 if none.
	EphemeralOwner int64
	// Ctime is when it was created, in milliseconds of the leader's clock.
	Ctime int64
	// Mtime is when its data last changed, in milliseconds of the leader's clock.
	Mtime int64
}

// Op is one operation of a Multi: *Create, *Set, *Delete or *Check.
type Op interface{ op() }

// Create a node.
type Create struct {
	// Path of the node.
	Path string
	// Data of the node.
	Data []byte
	// Ephemeral nodes end with the session.
	Ephemeral bool
	// Sequential nodes have a growing number appended to their name.
	Sequential bool
}

// Set the data of a node.
type Set struct {
	// Path of the node.
	Path string
	// Data of the node.
	Data []byte
	// Version expected, or AnyVersion.
	Version int32
}

// Delete a node.
type Delete struct {
	// Path of the node.
	Path string
	// Version expected, or AnyVersion.
	Version int32
}

// Check that a node exists, in a version.
type Check struct {
	// Path of the node.
	Path string
	// Version expected, or AnyVersion.
	Version int32
}

func (*Create) op() {}
func (*Set) op()    {}
func (*Delete) op() {}
func (*Check) op()  {}

// Result of one operation of a Multi.
type Result struct {
	// Path that was created.
	Path string
	// Stat after a Set, zero otherwise.
	Stat Stat
	// Err of this operation: why the Multi failed, or nil if it was another's fault.
	Err error
}
