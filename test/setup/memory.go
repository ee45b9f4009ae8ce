package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// leastMemory that must be free: linking the control plane takes about 2 GB, a lab
// with five ZooKeeper servers about 1.5 GB. In KiB.
const leastMemory = 2 << 20

// enoughMemory says how much is missing, where the system tells.
func enoughMemory() error {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil //nolint:nilerr // only Linux tells, and what is not told is not held against it
	}
	defer file.Close()
	return enough(bufio.NewScanner(file))
}

func enough(meminfo *bufio.Scanner) error {
	for meminfo.Scan() {
		var free int
		if _, err := fmt.Sscanf(meminfo.Text(), "MemAvailable: %d kB", &free); err != nil || !strings.HasPrefix(meminfo.Text(), "MemAvailable:") {
			continue
		}
		if free < leastMemory {
			return fmt.Errorf("%d MB of memory are free, and %d MB are needed: end other programs, or use a bigger machine", free>>10, leastMemory>>10)
		}
	}
	return nil
}
