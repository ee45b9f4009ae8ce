package membership

import "maps"

// label is one label of a node with its value.
type label struct{ key, value string }

// pin is the node affinity of one or many volumes, and where it leaves them.
type pin struct {
	text     string
	affinity *affinity
	// places is, by level, how many of the nodes that match are in each domain.
	places map[Level]map[Domain]int
}

// domain is the one domain of the level that the volumes are pinned to.
func (p *pin) domain(l Level) (Domain, bool) {
	if d, ok := p.affinity.states(l); ok {
		return d, true
	}
	if len(p.places[l]) == 1 {
		for d := range p.places[l] {
			return d, true
		}
	}
	return "", false
}

// count adds delta nodes like n.
func (p *pin) count(l Level, n *nodeRecord, delta int) {
	d, ok := l.of(n.labels)
	if !ok {
		return
	}
	if p.places[l][d] += delta; p.places[l][d] == 0 {
		delete(p.places[l], d)
	}
}

// pins are all node affinities in use, found by the labels that they ask for, so
// that a change of one node looks at few of them.
type pins struct {
	byText  map[string]*pin
	byLabel map[label]map[*pin]struct{}
	// loose pins name no label that every node of theirs bears.
	loose map[*pin]struct{}
	// nodes by the labels that pins ask for.
	nodes map[string]map[string]map[string]*nodeRecord
}

func newPins() *pins {
	return &pins{
		byText: map[string]*pin{}, byLabel: map[label]map[*pin]struct{}{}, loose: map[*pin]struct{}{},
		nodes: map[string]map[string]map[string]*nodeRecord{},
	}
}

// of returns the pin of the text, with its places at the level worked out.
func (ps *pins) of(text string, l Level, all map[string]*nodeRecord) *pin {
	p := ps.byText[text]
	if p == nil {
		a, err := parseAffinity(text)
		if err != nil {
			a = &affinity{} // the API server admitted it; whatever it says, it pins to nothing known
		}
		p = &pin{text: text, affinity: a, places: map[Level]map[Domain]int{}}
		ps.byText[text] = p
		ps.file(p, all)
	}
	if p.places[l] == nil {
		p.places[l] = map[Domain]int{}
		for _, n := range ps.candidates(p, all) {
			if p.affinity.matches(n) {
				p.count(l, n, 1)
			}
		}
	}
	return p
}

// file enters the pin under the labels that it asks for.
func (ps *pins) file(p *pin, all map[string]*nodeRecord) {
	for _, t := range p.affinity.terms {
		if t.indexed.Key == "" {
			ps.loose[p] = struct{}{}
			return
		}
	}
	for _, t := range p.affinity.terms {
		for _, v := range t.indexed.Values {
			l := label{t.indexed.Key, v}
			if ps.byLabel[l] == nil {
				ps.byLabel[l] = map[*pin]struct{}{}
			}
			ps.byLabel[l][p] = struct{}{}
		}
		if ps.nodes[t.indexed.Key] == nil {
			ps.nodes[t.indexed.Key] = map[string]map[string]*nodeRecord{}
			for _, n := range all {
				ps.index(t.indexed.Key, n)
			}
		}
	}
}

func (ps *pins) index(key string, n *nodeRecord) {
	v, ok := n.labels[key]
	if !ok {
		return
	}
	if ps.nodes[key][v] == nil {
		ps.nodes[key][v] = map[string]*nodeRecord{}
	}
	ps.nodes[key][v][n.name] = n
}

func (ps *pins) candidates(p *pin, all map[string]*nodeRecord) map[string]*nodeRecord {
	if _, loose := ps.loose[p]; loose {
		return all
	}
	found := map[string]*nodeRecord{}
	for _, t := range p.affinity.terms {
		for _, v := range t.indexed.Values {
			maps.Copy(found, ps.nodes[t.indexed.Key][v])
		}
	}
	return found
}

// drop forgets a pin that nobody uses.
func (ps *pins) drop(text string) {
	p := ps.byText[text]
	if p == nil {
		return
	}
	delete(ps.byText, text)
	delete(ps.loose, p)
	for _, t := range p.affinity.terms {
		for _, v := range t.indexed.Values {
			delete(ps.byLabel[label{t.indexed.Key, v}], p)
		}
	}
}

// change follows a node from was to is, either of which may be nil, and returns
// the pins whose domain at some level is another now.
func (ps *pins) change(was, is *nodeRecord) []*pin {
	touched := map[*pin]struct{}{}
	for p := range ps.loose {
		touched[p] = struct{}{}
	}
	for _, n := range []*nodeRecord{was, is} {
		if n == nil {
			continue
		}
		for k, v := range n.labels {
			for p := range ps.byLabel[label{k, v}] {
				touched[p] = struct{}{}
			}
		}
	}
	ps.reindex(was, is)
	var moved []*pin
	for p := range touched {
		if p.follow(was, is) {
			moved = append(moved, p)
		}
	}
	return moved
}

func (ps *pins) reindex(was, is *nodeRecord) {
	for key, values := range ps.nodes {
		if was != nil {
			if v, ok := was.labels[key]; ok {
				delete(values[v], was.name)
			}
		}
		if is != nil {
			ps.index(key, is)
		}
	}
}

func (p *pin) follow(was, is *nodeRecord) (moved bool) {
	before, after := was != nil && p.affinity.matches(was), is != nil && p.affinity.matches(is)
	for l := range p.places {
		from, pinned := p.domain(l)
		if before {
			p.count(l, was, -1)
		}
		if after {
			p.count(l, is, 1)
		}
		to, still := p.domain(l)
		moved = moved || from != to || pinned != still
	}
	return moved
}
