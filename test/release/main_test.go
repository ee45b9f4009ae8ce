package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

// The bill of this test's own binary names what it was built from.
func TestBillNamesTheModules(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{self}, &out); err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || len(d.Metadata.Component.Hashes) != 1 || d.Components[0].Name != "std" {
		t.Errorf("bill: got %+v", d)
	}
}

func TestModule(t *testing.T) {
	got := module(&debug.Module{Path: "example.com/m", Version: "v1.2.3", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})
	if got.PURL != "pkg:golang/example.com/m@v1.2.3" || !slices.Equal(got.Hashes, []hash{{"SHA-256", "0000000000000000000000000000000000000000000000000000000000000000"}}) {
		t.Errorf("component: got %+v", got)
	}
}
