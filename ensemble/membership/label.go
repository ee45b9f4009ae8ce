package membership

import (
	"maps"
	"slices"
	"strings"
	"unique"
)

// labelText is the labels of a pod as one interned string, key and value by turns,
// each ended by a zero byte. The pods of a ReplicaSet share theirs.
type labelText struct{ text }

func packLabels(m map[string]string) labelText {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(m[k])
		b.WriteByte(0)
	}
	return labelText{unique.Make(b.String())}
}

// Lookup implements labels.Labels.
func (l labelText) Lookup(label string) (value string, exists bool) {
	for rest := l.Value(); rest != ""; {
		var k, v string
		k, rest, _ = strings.Cut(rest, "\x00")
		v, rest, _ = strings.Cut(rest, "\x00")
		if k == label {
			return v, true
		}
	}
	return "", false
}

// Has implements labels.Labels.
func (l labelText) Has(label string) bool {
	_, ok := l.Lookup(label)
	return ok
}

// Get implements labels.Labels.
func (l labelText) Get(label string) string {
	v, _ := l.Lookup(label)
	return v
}
