// Command table prints what was measured, one row beside its peer.
package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/quorate/quorate/test/bench"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: table FILE")
		os.Exit(2)
	}
	rows, err := bench.Read(os.Args[1])
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%s holds no measurement: run make bench", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURED\tVALUE\tUNIT\tBESIDE\tVALUE\tRATIO")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%.4g\t%s\n", r.Name, r.Value, r.Unit, r.Peer, r.PeerValue, r.Ratios())
	}
	_ = w.Flush()
}
