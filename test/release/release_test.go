package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// output of a command that is run at the top of the repository.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "CGO_ENABLED=0") // whatever make runs us
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &said)
	}
	return string(out)
}

// The release of this platform, made as all are, is a binary of that version, a bill of
// what is in it, and the checksums of both.
func TestReleaseIsWhole(t *testing.T) {
	dir, host := t.TempDir(), runtime.GOOS+"/"+runtime.GOARCH
	output(t, "make", "release", "PLATFORMS="+host, "RELEASE_DIR="+dir, "VERSION=v1.2.3")
	binary := "quorate_" + runtime.GOOS + "_" + runtime.GOARCH
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	names := slices.Sorted(maps.Keys(files))
	if want := []string{"SHA256SUMS", binary, binary + ".cdx.json"}; !slices.Equal(names, want) {
		t.Fatalf("files: got %v, want %v", names, want)
	}
	var sums string
	for _, name := range names[1:] {
		sums += fmt.Sprintf("%s  %s\n", sum(files[name]), name)
	}
	if got := string(files["SHA256SUMS"]); got != sums {
		t.Errorf("SHA256SUMS: got\n%swant\n%s", got, sums)
	}
	if got := output(t, filepath.Join(dir, binary), "--version"); !strings.Contains(got, "v1.2.3") {
		t.Errorf("version: got %s, want v1.2.3", got)
	}
	billed(t, files[binary+".cdx.json"], sum(files[binary]))
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// billed is the binary of that checksum, and all modules that it is built from.
func billed(t *testing.T, text []byte, binary string) {
	t.Helper()
	var d document
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.Spec != "1.5" || !slices.Equal(d.Metadata.Component.Hashes, []hash{{"SHA-256", binary}}) {
		t.Errorf("bill: got %s %s of %+v, want CycloneDX 1.5 of the binary", d.Format, d.Spec, d.Metadata)
	}
	want := map[string]bool{}
	for module := range strings.FieldsSeq(output(t, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "./cmd/quorate")) {
		want["pkg:golang/"+module] = true
	}
	for _, c := range d.Components[1:] { // the first one is Go's own library
		if !want[c.PURL] || len(c.Hashes) != 1 {
			t.Errorf("bill: %+v is not what the binary is built from", c)
		}
		delete(want, c.PURL)
	}
	if len(want) > 0 || len(d.Components) < 30 {
		t.Errorf("bill of %d: lacks %v", len(d.Components), slices.Sorted(maps.Keys(want)))
	}
}

// All platforms that are promised are built, each as that of this machine is.
func TestReleaseIsForAllPlatforms(t *testing.T) {
	if got := output(t, "make", "-n", "release"); !strings.Contains(got, "for p in linux/amd64 linux/arm64 darwin/arm64; do") {
		t.Errorf("make release: got %s", got)
	}
}

var phony = regexp.MustCompile(`(?m)^\.PHONY: (.*)$`)

// Whoever asks what can be made is told all of it.
func TestHelpListsEveryTarget(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(output(t, "make", "help"))
	targets := phony.FindAllSubmatch(makefile, -1)
	for _, target := range targets {
		if !slices.Contains(listed, "\x1b[1m"+string(target[1])) {
			t.Errorf("make help does not list %s", target[1])
		}
	}
	if len(targets) < 10 {
		t.Errorf("targets: got %d, want all", len(targets))
	}
}
