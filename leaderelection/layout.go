package leaderelection

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// DefaultRoot of all our nodes.
const DefaultRoot = "/quorate"

const (
	ownerName   = "owner"  // ephemeral, fixed: its being there keeps a second owner out
	claimPrefix = "claim-" // ephemeral, one per attempt: what later writes check
	queuePrefix = "queue-" // ephemeral sequential: standbys
	resignName  = "resign" // ephemeral: a request to the term whose token it holds
)

// layout is where an election is. The election's own node holds the record.
type layout struct{ record string }

func electionsOf(root string) string { return path.Join(root, "elections") }
func sessionsOf(root string) string  { return path.Join(root, "sessions") }

func layoutOf(root, namespace, name string) layout {
	return layout{record: path.Join(electionsOf(root), namespace, name)}
}

func (l layout) owner() string            { return l.record + "/" + ownerName }
func (l layout) claim(guid string) string { return l.record + "/" + claimPrefix + guid }
func (l layout) queue(guid string) string { return l.record + "/" + queuePrefix + guid + "-" }
func (l layout) child(name string) string { return l.record + "/" + name }
func (l layout) resign() string           { return l.record + "/" + resignName }

// ownerData is what the owner node says. Only the session that owns the node, never
// the name in it, proves anything.
type ownerData struct {
	Holder string `json:"holderIdentity"`
	Claim  string `json:"claim"`
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("leaderelection: %T cannot be written as JSON: %v", v, err))
	}
	return data
}

// decodeRecord is lenient with an empty node, as an administrator may have made one.
func decodeRecord(data []byte) (resourcelock.LeaderElectionRecord, error) {
	var r resourcelock.LeaderElectionRecord
	if len(data) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read election record: %w", err)
	}
	return r, nil
}

// sequence number of a queue node, as ZooKeeper appends it; ok is false for names
// that are not ours, which never count.
func sequence(name string) (n int32, ok bool) {
	if !strings.HasPrefix(name, queuePrefix) {
		return 0, false
	}
	i := strings.LastIndexByte(name, '-')
	if name[i-1] == '-' {
		i-- // it has wrapped around, and has a sign
	}
	v, err := strconv.ParseInt(name[i+1:], 10, 32)
	return int32(v), err == nil
}

// queueOrder returns the queue's nodes, first in line first. Sequence numbers wrap
// around, so that they are compared by their difference.
func queueOrder(children []string) []string {
	var out []string
	for _, c := range children {
		if _, ok := sequence(c); ok {
			out = append(out, c)
		}
	}
	sortBySequence(out)
	return out
}

func sortBySequence(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		x, _ := sequence(a)
		y, _ := sequence(b)
		return int(x - y)
	})
}
