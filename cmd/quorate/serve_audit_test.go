package main

import (
	"testing"

	"github.com/quorate/quorate/cmd/quorate/internal/config"
)

// Whoever writes the condition Guarded looks at what it is about, whether it is the
// guard itself or not.
func TestWhatIsAudited(t *testing.T) {
	tests := map[string]struct {
		change           func(*config.QuorateConfiguration)
		guard, scheduler bool
	}{
		"both": {func(*config.QuorateConfiguration) {}, true, false},
		"guard alone": {func(c *config.QuorateConfiguration) {
			c.StatusController.Enabled = false
		}, true, false},
		"status controller alone": {func(c *config.QuorateConfiguration) {
			c.Webhook.Enabled = false
		}, true, false},
		"extender alone": {func(c *config.QuorateConfiguration) {
			c.Webhook.Enabled, c.StatusController.Enabled = false, false
			c.Extender.Enabled, c.Extender.SchedulerConfiguration = true, "scheduler.yaml"
		}, false, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			tc.change(c)
			got, err := (&process{config: c}).auditConfig()
			if err != nil {
				t.Fatal(err)
			}
			if guard := got.Validating != nil && got.Mutating != nil && got.Definition != nil; guard != tc.guard {
				t.Errorf("looks at the guard: got %t, want %t", guard, tc.guard)
			}
			if scheduler := got.SchedulerFile != ""; scheduler != tc.scheduler {
				t.Errorf("looks at the scheduler's configuration: got %t, want %t", scheduler, tc.scheduler)
			}
		})
	}
}
