package lab

import (
	"os"
	"strings"
	"testing"
)

// What was downloaded is what was pinned, or nothing; once it is here, nobody is asked.
func TestDefinitionsArePinned(t *testing.T) {
	files, err := Definitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "kind: CustomResourceDefinition") {
			t.Errorf("%s: got %.100s (%v), want a CustomResourceDefinition", file, text, err)
		}
	}
	t.Setenv("GOPROXY", "off")
	if _, err := Definitions(t.Context()); err != nil {
		t.Errorf("once downloaded: %v", err)
	}
	other, absent := operators[1], operators[1]
	other.sum, absent.module = operators[0].sum, absent.module+"-none"
	for want, r := range map[string]release{"got the sum " + operators[1].sum: other, absent.module: absent} {
		if files, err := download(t.Context(), []release{operators[0], r}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("download: got %v, %v, want an error that says %q", files, err, want)
		}
	}
}
