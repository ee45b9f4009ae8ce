package probe

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"k8s.io/apimachinery/pkg/types"
)

// Configs remembers the configurations that ensembles were last heard to run by, for
// a while: reading one from ZooKeeper is a session, and so two writes to it. It is
// for those who look regularly. Whoever decides reads afresh.
type Configs struct {
	known *expirable.LRU[types.UID, *Config]
}

// NewConfigs remembers those of up to size ensembles, each for ttl.
func NewConfigs(size int, ttl time.Duration) *Configs {
	return &Configs{known: expirable.NewLRU[types.UID, *Config](size, nil, ttl)}
}

// spare tells the prober not to read what is known.
func (c *Configs) spare(ensemble types.UID, p Prober) {
	if z, ok := p.(*ZooKeeper); ok && c != nil {
		_, z.SkipConfig = c.known.Get(ensemble)
	}
}

// complete gives the leader's answer the configuration that is known, and remembers
// the one that it told.
func (c *Configs) complete(ensemble types.UID, answers []Answer) {
	if c == nil {
		return
	}
	for i := range answers {
		a := &answers[i]
		if !a.Heard || !a.Serving || a.Role != Leader {
			continue
		}
		if a.Config != nil && !a.Config.VotersOnly {
			if !c.known.Contains(ensemble) { // as old as it was when it was read
				c.known.Add(ensemble, a.Config)
			}
		} else if known, ok := c.known.Get(ensemble); ok {
			a.Config = known
		}
	}
}

// forget what a view shows to be none any more.
func (c *Configs) forget(ensemble types.UID, v *View) {
	if c != nil && (!v.Known || v.Changing) {
		c.known.Remove(ensemble)
	}
}
