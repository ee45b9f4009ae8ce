package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestInstallMissing(t *testing.T) {
	for name, c := range map[string]struct {
		root, apt bool
		lacks     string // package
		fails     bool
		installs  []string
		says      []string
	}{
		"everything is there":   {},
		"root on Debian":        {root: true, apt: true, lacks: "zookeeper", installs: []string{"zookeeper"}},
		"not root":              {apt: true, lacks: "default-jre-headless", says: []string{"a Java runtime missing", "only root", "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends default-jre-headless'"}},
		"not Debian":            {root: true, lacks: "iproute2", says: []string{"network namespaces", "no apt-get", "Debian 12", "apt-get install -y --no-install-recommends iproute2"}},
		"the installation ends": {root: true, apt: true, lacks: "zookeeper", fails: true, installs: []string{"zookeeper"}, says: []string{"install zookeeper", "no route", "by hand"}},
	} {
		t.Run(name, func(t *testing.T) {
			var installed []string
			h := host{
				root: c.root, apt: c.apt,
				present: func(n need) bool { return n.pkg != c.lacks || !c.fails && slices.Contains(installed, n.pkg) },
				install: func(_ context.Context, packages []string, _ io.Writer) error {
					installed = packages
					if c.fails {
						return errors.New("no route to host")
					}
					return nil
				},
			}
			err := installMissing(t.Context(), h, needs, io.Discard)
			if !slices.Equal(installed, c.installs) {
				t.Errorf("got %v installed, want %v", installed, c.installs)
			}
			if (err != nil) != (len(c.says) > 0) {
				t.Fatalf("got error %v, want one that says %q", err, c.says)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("got %q, want it to say %q", err, s)
				}
			}
		})
	}
}

func TestEnough(t *testing.T) {
	for meminfo, ok := range map[string]bool{
		"MemTotal:  8000000 kB\nMemAvailable:    2097152 kB\n": true,
		"MemTotal:  8000000 kB\nMemAvailable:    2097151 kB\n": false,
		"MemTotal:  8000000 kB\n":                              true,
	} {
		if err := enough(bufio.NewScanner(strings.NewReader(meminfo))); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok %t", meminfo, err, ok)
		}
	}
}
