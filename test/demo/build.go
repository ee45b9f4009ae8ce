package main

import (
	"context"
	"sync"

	"github.com/quorate/quorate/test/lab"
)

// buildBehind starts nothing until it is asked to; then it builds the control plane
// while the story goes on, and gives all who ask later the same result.
func buildBehind(out *screen) func(context.Context) (string, error) {
	var once sync.Once
	var dir string
	var err error
	done := make(chan struct{})
	return func(ctx context.Context) (string, error) {
		once.Do(func() {
			go func() {
				defer close(done)
				dir, err = lab.Build(ctx, out.progress())
			}()
		})
		<-done // Build ends when ctx does
		return dir, err
	}
}
