package admission

import (
	"k8s.io/apimachinery/pkg/runtime"
)

// Recorder tells people what happened to an object. An events.EventRecorder of
// client-go is one.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}
