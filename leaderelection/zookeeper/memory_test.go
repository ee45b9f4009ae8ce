package zookeeper_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// P10: go-zookeeper keeps what it has for a watch over a reconnect, and adds to it
// whenever the path is looked at again, until something happens to the node: what a
// long-lived leader watches is what nothing happens to.
func TestReconnectsDoNotPileWatchesUp(t *testing.T) {
	const paths, reconnects = 200, 50
	s := serve(t, 30*time.Second)
	s.zxid = 0 // as in TestWatchesEndWithTheirConnection
	c := dial(t, zookeeper.Config{Servers: s.Addr().String(), Timeout: 30 * time.Second})
	look := func() (changed <-chan struct{}) {
		for i := range paths {
			_, _, w, err := c.Watch(t.Context(), fmt.Sprint("/x", i))
			if err != nil {
				t.Fatal(err)
			}
			changed = w
		}
		return changed
	}
	reconnect := func(times int) {
		for range times {
			changed := look()
			s.disconnect()
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatal("no other connection")
			}
		}
		look()
	}
	reconnect(5)
	before := heap()
	reconnect(reconnects)
	if grown := int64(heap()) - int64(before); grown > paths*reconnects*32 {
		t.Errorf("heap: grew by %d bytes, %d for each watch and reconnect", grown, grown/(paths*reconnects))
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
