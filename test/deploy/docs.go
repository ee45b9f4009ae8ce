package deploy

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Commands are the lines of the sh blocks of a page, in order: a lab runs them.
func Commands(page string) ([]string, error) {
	blocks, err := Blocks(page)
	var commands []string
	for _, block := range blocks {
		commands = append(commands, block...)
	}
	return commands, err
}

// Blocks are the sh blocks of a page, each with its commands.
func Blocks(page string) ([][]string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	var blocks [][]string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh":
			inside, blocks = true, append(blocks, nil)
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], line)
		}
	}
	return blocks, nil
}

var (
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	indented = regexp.MustCompile(`(?m)^ {4,}(\S.*?)(?: +#.*)?$`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	typed    = regexp.MustCompile(`^(docker|go|install|kubeadm|kubectl|make|quorate) `)
)

// Others are the commands that stand elsewhere on a page: on an indented line, or in a
// sentence, if they say more than a program and what it is told to do.
func Others(page string) ([]string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	var commands []string
	rest := fenced.ReplaceAllString(string(text), "")
	for _, line := range indented.FindAllStringSubmatch(rest, -1) {
		if typed.MatchString(line[1]) {
			commands = append(commands, line[1])
		}
	}
	for _, code := range quoted.FindAllStringSubmatch(rest, -1) {
		words := strings.Fields(code[1])
		if said := strings.Join(words, " "); len(words) > 2 && typed.MatchString(said) {
			commands = append(commands, said)
		}
	}
	return commands, nil
}
