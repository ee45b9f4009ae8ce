package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"
)

// screen is where the story is told. On a terminal a picture is drawn over itself
// while it changes; elsewhere only its last frame is written.
type screen struct {
	live bool // a terminal

	mu    sync.Mutex // guards below
	out   io.Writer
	drawn int // lines of the picture that the next frame replaces
}

var (
	heading = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("12"))
	faint   = lipgloss.NewStyle().Faint(true)
)

func newScreen(out *os.File) *screen {
	return &screen{out: out, live: term.IsTerminal(int(out.Fd()))}
}

// title begins a step.
func (s *screen) title(i, n int, text string) {
	s.line("\n" + heading.Render(fmt.Sprintf("%d/%d  %s", i, n, text)))
}

// say tells a sentence.
func (s *screen) say(format string, args ...any) { s.line("  " + fmt.Sprintf(format, args...)) }

// quote shows what another program said.
func (s *screen) quote(text string) {
	for line := range strings.Lines(text) {
		s.line(faint.Render("    | " + strings.TrimRight(line, "\n")))
	}
}

// line writes one, below whatever picture there is.
func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = 0
	fmt.Fprintln(s.out, text)
}

// show draws the picture for good.
func (s *screen) show(picture string) {
	s.frame(picture)
	s.line("")
}

// frame draws the picture over the one before.
func (s *screen) frame(picture string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	picture = strings.TrimRight(picture, "\n")
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn) // up to its first line, and clear
	}
	fmt.Fprintln(s.out, picture)
	s.drawn = 0
	if s.live {
		s.drawn = strings.Count(picture, "\n") + 1
	}
}

// until draws the picture again and again until it holds, or ctx ends; away from a
// terminal it draws the last one only.
func (s *screen) until(ctx context.Context, draw func(context.Context) (picture string, holds bool)) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		picture, holds := draw(ctx)
		if holds {
			s.show(picture)
			return nil
		}
		if s.live {
			s.frame(picture)
		}
		select {
		case <-ctx.Done():
			s.show(picture)
			return fmt.Errorf("the picture did not become what it should: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// progress is a writer of lines that belong to work behind the story.
func (s *screen) progress() io.Writer { return progress{s} }

type progress struct{ s *screen }

func (p progress) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		p.s.line(faint.Render("  (" + strings.TrimSpace(line) + ")"))
	}
	return len(text), nil
}

// wrapped breaks long lines between words, and indents what follows a break.
func wrapped(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		column := 0
		for i, word := range strings.Fields(line) {
			switch {
			case i > 0 && column+1+len(word) > width:
				b.WriteString("\n    ")
				column = 4
			case i > 0:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += len(word)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
