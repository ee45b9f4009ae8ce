package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tried are the pages whose commands are run, in this order.
var tried = []string{"install.md", "security.md", "eviction.md", "uninstall.md"}

// excused are commands that no lab runs as they stand, each with the reason.
var excused = map[string]string{
	"docker build --build-arg VERSION=v0.1.0 --tag example.com/quorate:v0.1.0 .":             "no container engine: make verify-image runs what it builds",
	"docker push example.com/quorate:v0.1.0":                                                 "no registry",
	"kubeadm init phase control-plane scheduler":                                             "no kubeadm: TestKubeadmsSchedulerFindsWhatItNeeds looks at what it is given",
	"quorate elect -- COMMAND":                                                               "COMMAND is the reader's: TestExampleOfElect takes the one that is shipped",
	"quorate leaders resign NAME":                                                            "NAME is the reader's: test/election runs it",
	"quorate leaders unseal NAME --namespace=NAMESPACE --leader-elect-zookeeper-servers=...": "the same: TestUnseal runs it",
	"kubectl delete pod":                                                                     "named, not told to be typed",
	"kubectl describe pod":                                                                   "the same",
	"make demo":                                                                              "a program of its own; test/demo tests its parts",
	"make test":                                                                              "runs this test",
	"go test ./ROOM/...":                                                                     "the same",
}

// everyPage that may have commands.
func everyPage(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	return append(pages, filepath.Join(root, "..", "README.md"), filepath.Join(root, "..", "CONTRIBUTING.md"))
}

// No page has a command that nobody runs, unless it says why here.
func TestEveryCommandIsTriedOrExcused(t *testing.T) {
	found := map[string]bool{}
	for _, page := range everyPage(t) {
		commands, err := Commands(page)
		if err != nil {
			t.Fatal(err)
		}
		known := filepath.Base(filepath.Dir(page)) == "docs" && slices.Contains(tried, filepath.Base(page))
		if known != (len(commands) > 0) {
			t.Errorf("%s has the commands %q, and is among %v: %t", page, commands, tried, known)
		}
		others, err := Others(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range others {
			found[command] = true
			if excused[command] == "" {
				t.Errorf("%s: nobody runs %q: put it into a sh block, or excuse it", page, command)
			}
		}
	}
	for command := range excused {
		if !found[command] {
			t.Errorf("no page has %q: the excuse is stale", command)
		}
	}
}

// kubectl fails for a kind that is not served, and what follows it in a block is not
// read: kinds that most supported versions do not serve are in a block of their own.
func TestNewKindsAreInBlocksOfTheirOwn(t *testing.T) {
	young := func(command string) bool { return strings.Contains(command, "mutatingadmissionpolicy") }
	found := 0
	for _, page := range everyPage(t) {
		blocks, err := Blocks(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks {
			if !slices.ContainsFunc(block, young) {
				continue
			}
			found++
			for _, command := range block {
				if !young(command) {
					t.Errorf("%s: %q is in a block with kinds that not all versions serve", page, command)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no page takes the voter policy away")
	}
}
