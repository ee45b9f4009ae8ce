package probe

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A view is settled once the same was said and counted a settle time before, and at no
// look in between anything else.
func TestAgreement(t *testing.T) {
	const settle, after = 4 * time.Second, 5*time.Second + 1 // with the margin
	look := func(at time.Duration, epoch uint64, counted int, says ...string) View {
		var answers []Answer
		config := &Config{}
		for i, name := range []string{"a", "b", "c"} {
			config.Members = append(config.Members, ConfigMember{ServerID: name, Votes: true, Weight: 1})
			a := Answer{Target: Target{Name: name, UID: types.UID(name)}, ServerID: name, At: scriptStart.Add(at), Epoch: epoch, Settle: settle}
			switch says[i] {
			case "leads":
				a.Heard, a.Serving, a.Role, a.Config = true, true, Leader, config
				a.Count = &Count{Voters: 3, SyncedFollowers: counted}
			case "follows":
				a.Heard, a.Serving, a.Role = true, true, Follower
			}
			answers = append(answers, a)
		}
		return Judge(answers, Rules{}, scriptStart.Add(at))
	}
	well := func(at time.Duration) View { return look(at, 7, 1, "leads", "follows", "-") }
	const took = 2 * time.Second
	slow := well(0)
	slow.Members[0].Answer.Took = took
	for name, c := range map[string]struct {
		looks []View
		want  bool
	}{
		"the first look":                {[]View{well(0)}, false},
		"too early":                     {[]View{well(0), well(after - 1)}, false},
		"a settle time later":           {[]View{well(0), well(after)}, true},
		"still":                         {[]View{well(0), well(1), well(after)}, true},
		"another is heard":              {[]View{well(0), look(after, 7, 1, "leads", "-", "follows")}, false},
		"another in between":            {[]View{well(0), look(1, 7, 1, "leads", "-", "follows"), well(after)}, false},
		"another number":                {[]View{look(0, 7, 2, "leads", "follows", "-"), well(after)}, false},
		"a new epoch":                   {[]View{well(0), look(after, 8, 1, "leads", "follows", "-")}, false},
		"nobody led in between":         {[]View{well(0), look(1, 7, 0, "follows", "follows", "-"), well(after)}, false},
		"fewer are counted than say so": {[]View{look(0, 7, 0, "leads", "follows", "-"), look(after, 7, 0, "leads", "follows", "-")}, false},
		"no number is told":             {[]View{look(0, 7, -1, "leads", "follows", "-"), look(after, 7, -1, "leads", "follows", "-")}, false},
		"an older one disagrees":        {[]View{well(after), look(after-1, 7, 1, "leads", "-", "follows"), well(2*after - 2)}, false},
		"the older look comes last":     {[]View{well(after), well(0)}, false},
		"another older one comes last":  {[]View{look(after, 7, 1, "leads", "-", "follows"), well(1), well(after + 2)}, false},
		"the first look took long":      {[]View{slow, well(after + 1)}, false},
		"nobody looked for long":        {[]View{well(0), well(4*(after-1) + 1)}, false},
		"somebody did in between":       {[]View{well(0), well(4 * (after - 1)), well(8 * (after - 1))}, true},
		"and was over for long enough":  {[]View{slow, well(after + took)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var a Agreement
			for i := range c.looks {
				a.See(&c.looks[i])
			}
			if got := c.looks[len(c.looks)-1].Settled; got != c.want {
				t.Errorf("got settled=%t, want %t", got, c.want)
			}
		})
	}
}
