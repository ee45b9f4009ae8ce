package leaderelection

// NewBridge is for the tests of migrations, which run on a tree in memory.
var NewBridge = newBridge
