package lab

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestKillEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	p, err := StartProcess(t.Context(), ProcessConfig{
		Name: "family", Path: "sh", Args: []string{"-c", "sleep 1000 & echo $!; wait"}, LogDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	var child int
	await(t, "the child's id", func(context.Context) error {
		content, err := os.ReadFile(p.Log())
		if err != nil {
			return err
		}
		child, err = strconv.Atoi(strings.TrimSpace(string(content)))
		return err
	})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != -1 {
		t.Errorf("exit code of a killed process: got %d, want -1", code)
	}
	await(t, "the end of the child", func(context.Context) error {
		if alive(child) {
			return errors.New("it lives")
		}
		return nil
	})
	if err := p.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestExitCodeIsTheChilds(t *testing.T) {
	p, err := StartProcess(t.Context(), ProcessConfig{Path: "sh", Args: []string{"-c", "exit 7"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(bounded(t)); err == nil {
		t.Error("wait for a process that fails: got no error")
	}
	if code := p.ExitCode(); code != 7 {
		t.Errorf("exit code: got %d, want 7", code)
	}
}

func TestSubnetsAreNotShared(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		s, err := ClaimSubnet()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if seen[s.Addr(1)] {
			t.Errorf("%s was claimed twice", s.Addr(1))
		}
		seen[s.Addr(1)] = true
	}
}

// alive says whether a process exists and is not merely waiting to be reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
