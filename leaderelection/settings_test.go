package leaderelection

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestRecommendedSettings holds the table in docs/leader-election.md to the
// arithmetic: each is accepted, its session timeout is long enough, and the bound is what
// follows.
func TestRecommendedSettings(t *testing.T) {
	page, err := os.ReadFile("../docs/leader-election.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.FieldsFunc(strings.TrimSpace(line), func(r rune) bool { return r == '|' || r == '/' })
		if len(cells) != 9 || !strings.Contains(line, "s |") {
			continue
		}
		rows++
		d := make([]time.Duration, len(cells))
		for i, cell := range cells[1:] {
			if d[i+1], err = time.ParseDuration(strings.TrimSpace(cell)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		cfg := Config{LeaseDuration: d[1], RenewDeadline: d[2], RetryPeriod: d[3], StopTime: d[4]}
		managed := !strings.Contains(cells[0], "bare")
		for _, err := range cfg.validateDurations(managed) {
			t.Errorf("%s: %v", line, err)
		}
		b := budget{timeout: d[7], tick: d[5], interval: d[6], reserve: reserveOf(&cfg, managed)}
		if err := b.check(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if want := min(d[5], d[7]/10); d[6] != want {
			t.Errorf("%s: got a proof every %v, want the default %v", line, d[6], want)
		}
		if want := d[7] + d[5]*3/2; d[8] != want {
			t.Errorf("%s: got a successor after %v, want %v", line, d[8], want)
		}
	}
	if rows != 5 {
		t.Errorf("got %d settings, want 5", rows)
	}
}
