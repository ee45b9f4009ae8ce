package main

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// picture is what is drawn: zones beside each other, their hosts, the voters on them.
type picture struct {
	zones   []zone
	waiting []voter // pods without a node
	caption string
}

type zone struct {
	name  string
	lost  bool
	hosts []host
}

type host struct {
	name   string
	lost   bool
	voters []voter
}

// voter is one member. Its health decides how it looks.
type voter struct {
	name   string
	role   string // leader, follower, observer; empty where it has none
	health health
}

type health int

const (
	unseen  health = iota // was not heard
	waiting               // has no node, or starts
	synced                // serves
	leaving               // is being evicted
	gone                  // lost with its host, or killed
)

var (
	good  = lipgloss.NewStyle().Foreground(lipgloss.Color("10"))
	fair  = lipgloss.NewStyle().Foreground(lipgloss.Color("11"))
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Color("9"))
	frame = lipgloss.NewStyle().Border(lipgloss.RoundedBorder()).Padding(0, 1).Width(24)
)

// render draws the picture in plain text, with colours where the terminal has them.
func (p picture) render() string {
	rows := 0
	for _, z := range p.zones {
		rows = max(rows, len(z.lines()))
	}
	boxes := make([]string, 0, len(p.zones))
	for _, z := range p.zones {
		boxes = append(boxes, z.render(rows))
	}
	var b strings.Builder
	b.WriteString(lipgloss.JoinHorizontal(lipgloss.Top, boxes...))
	b.WriteByte('\n')
	if len(p.waiting) > 0 {
		b.WriteString("  waiting: ")
		for _, v := range p.waiting {
			b.WriteString(v.render() + "  ")
		}
		b.WriteByte('\n')
	}
	if p.caption != "" {
		b.WriteString("  " + p.caption + "\n")
	}
	return b.String()
}

func (z zone) render(rows int) string {
	style, title := frame, heading.Render(z.name)
	if z.lost {
		style, title = style.BorderForeground(lipgloss.Color("9")), bad.Render(z.name+"  LOST")
	}
	return style.Height(rows + 1).Render(title + "\n" + strings.Join(z.lines(), "\n"))
}

func (z zone) lines() []string {
	var lines []string
	for _, h := range z.hosts {
		name := h.name
		if h.lost {
			name += " (cordoned)"
		}
		lines = append(lines, faint.Render(name))
		for _, v := range h.voters {
			lines = append(lines, " "+v.render())
		}
	}
	return lines
}

func (v voter) render() string {
	mark := map[health]string{
		unseen: fair.Render("?"), waiting: fair.Render("◌"), synced: good.Render("●"), leaving: fair.Render("◐"), gone: bad.Render("✗"),
	}[v.health]
	name := v.name
	if v.role == "leader" {
		name = good.Bold(true).Render(name)
	}
	return strings.TrimRight(fmt.Sprintf("%s %s %s", mark, name, faint.Render(v.role)), " ")
}
