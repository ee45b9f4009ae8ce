package extender

import (
	"encoding/json"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// encodeFilter writes an ExtenderFilterResult in the form that was asked for: names
// for names, nodes for nodes. A list is never left out, since the scheduler takes
// that for an empty one without a reason.
//
// It is written by hand because thousands of nodes share a few reasons, which
// encoding/json would look at, and sort the nodes of, one by one.
func encodeFilter(args *extenderv1.ExtenderArgs, a *Answer) []byte {
	if a.Outcome.Temporary() {
		return append(quote([]byte(`{"Error":`), "quorate: "+a.Message), '}')
	}
	b := make([]byte, 0, 64+96*len(nodeNames(args)))
	if args.NodeNames != nil {
		b = append(b, `{"Nodes":null,"NodeNames":[`...)
		for i, n := range a.Nodes {
			b = quote(comma(b, i), n)
		}
		b = append(b, ']')
	} else {
		b = append(b, `{"NodeNames":null,"Nodes":{"items":[`...)
		b = append(appendNodes(b, args, a), "]}"...)
	}
	b = append(b, `,"FailedNodes":null,"FailedAndUnresolvableNodes":{`...)
	i := 0
	for _, r := range a.Refused {
		reason := quote([]byte{':'}, r.Reason)
		for _, n := range r.Nodes {
			b = append(quote(comma(b, i), n), reason...)
			i++
		}
	}
	return append(b, `},"Error":""}`...)
}

func appendNodes(b []byte, args *extenderv1.ExtenderArgs, a *Answer) []byte {
	in := make(map[string]bool, len(a.Nodes))
	for _, n := range a.Nodes {
		in[n] = true
	}
	written := 0
	for i := range args.Nodes.Items {
		node := &args.Nodes.Items[i]
		if !in[node.Name] {
			continue
		}
		encoded, err := json.Marshal(node)
		if err != nil {
			continue // it was decoded a moment ago; without it the scheduler goes elsewhere
		}
		b = append(comma(b, written), encoded...)
		written++
	}
	return b
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// quote appends a JSON string. Names and most reasons need no escapes.
func quote(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			encoded, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, encoded...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
