// Command promql parses expressions with Prometheus' own parser, a JSON array of them in
// its input, and writes what each selects: metrics, with the labels that it asks of
// them. It is a module of its own, so that the parser moves no dependency of ours.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var expressions []string
	if err := json.NewDecoder(in).Decode(&expressions); err != nil {
		return fmt.Errorf("read expressions: %w", err)
	}
	selected := make([]map[string][]string, len(expressions))
	for i, e := range expressions {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(e)
		if err != nil {
			return fmt.Errorf("parse %s: %w", e, err)
		}
		selected[i] = selects(expr)
	}
	return json.NewEncoder(out).Encode(selected)
}

// selects is the labels that are matched or grouped by, of each metric.
func selects(expr parser.Expr) map[string][]string {
	labels := map[string][]string{}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		asked := append(labels[v.Name], grouping(path)...)
		for _, m := range v.LabelMatchers {
			if m.Name != "__name__" {
				asked = append(asked, m.Name)
			}
		}
		labels[v.Name] = asked
		return nil
	})
	return labels
}

// grouping is what the aggregations around a selector keep.
func grouping(path []parser.Node) (labels []string) {
	for _, node := range path {
		if a, ok := node.(*parser.AggregateExpr); ok && !a.Without {
			labels = append(labels, a.Grouping...)
		}
	}
	return labels
}
