package deploy

import (
	"path/filepath"
	"slices"
	"testing"
)

// tried are the pages whose commands are run, in this order.
var tried = []string{"install.md", "security.md", "eviction.md", "uninstall.md"}

// No page has a command that nobody runs.
func TestEveryPageWithCommandsIsTried(t *testing.T) {
	docs := filepath.Join(root, "..", "docs")
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(root, "..", "README.md"), filepath.Join(root, "..", "CONTRIBUTING.md")) {
		commands, err := Commands(page)
		if err != nil {
			t.Fatal(err)
		}
		known := filepath.Dir(page) == docs && slices.Contains(tried, filepath.Base(page))
		if known != (len(commands) > 0) {
			t.Errorf("%s has the commands %q, and is among %v: %t", page, commands, tried, known)
		}
	}
}
