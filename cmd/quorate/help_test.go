package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands say to testdata")

// What --help says of every command is a promise to whoever writes scripts: each
// change of it is seen in a review.
func TestHelp(t *testing.T) {
	for _, command := range []string{"", "serve", "elect", "leaders", "leaders resign", "leaders unseal", "install"} {
		t.Run("quorate "+command, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append(strings.Fields(command), "--help")
			if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
				t.Fatalf("exit code: got %d, want 0; %s", code, &stderr)
			}
			file := filepath.Join("testdata", strings.TrimSpace("quorate "+command)+".help.golden")
			file = strings.ReplaceAll(file, " ", "-")
			if *rewrite {
				if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), stdout.String()); diff != "" {
				t.Errorf("help (-want +got), rewritten by go test ./cmd/quorate -rewrite:\n%s", diff)
			}
		})
	}
}

// No command is left out above.
func TestEveryCommandHasItsHelpFile(t *testing.T) {
	var stdout bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stdout); code != 0 {
		t.Fatalf("exit code: got %d, want 0", code)
	}
	_, list, _ := strings.Cut(stdout.String(), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	found := 0
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if name == "completion" || name == "help" {
			continue // cobra's own
		}
		found++
		if _, err := os.Stat(filepath.Join("testdata", "quorate-"+name+".help.golden")); err != nil {
			t.Error(err)
		}
	}
	if found == 0 {
		t.Errorf("no command in:\n%s", stdout.String())
	}
}
