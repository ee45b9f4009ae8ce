package leaderelection

// The locks of a migration, for tests, which run on a tree in memory.
var (
	NewBridge = newBridge
	NewSealed = newSealed
)
