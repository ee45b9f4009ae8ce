package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Row is one measurement. Ratio is Value / PeerValue.
type Row struct {
	// Name of what was measured, e.g. "filter 500 names, round trip p50".
	Name string `json:"name"`
	// Value in Unit.
	Value float64 `json:"value"`
	// Unit of both values, e.g. "ms", "pods/s".
	Unit string `json:"unit"`
	// Peer is what it is measured beside: another implementation, or the floor that
	// nothing can be better than.
	Peer string `json:"peer"`
	// PeerValue in Unit, from the same run.
	PeerValue float64 `json:"peer_value"`
	// Ratio of Value to PeerValue.
	Ratio float64 `json:"ratio"`
}

// Record writes one row to build/bench.json of this repository; a row of the same
// name and peer is replaced. It fails the benchmark if it cannot.
func Record(tb testing.TB, name string, value float64, unit, peer string, peerValue float64) {
	tb.Helper()
	row := Row{Name: name, Value: value, Unit: unit, Peer: peer, PeerValue: peerValue}
	if peerValue != 0 {
		row.Ratio = value / peerValue
	}
	path, err := output()
	if err == nil {
		err = keep(path, row)
	}
	if err != nil {
		tb.Fatalf("record %q: %v", name, err)
	}
	tb.Logf("%s: %.4g %s, %s: %.4g, ratio %.3f", name, value, unit, peer, peerValue, row.Ratio)
}

// Read returns the rows of a file. A file that is not there has none.
func Read(path string) ([]Row, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(content) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rows []Row
	if err := json.Unmarshal(content, &rows); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return rows, nil
}

// keep adds the row, under a lock: several processes may record at once.
func keep(path string, row Row) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	rows, err := Read(path)
	if err != nil {
		return err
	}
	kept := rows[:0]
	for _, r := range rows {
		if r.Name != row.Name || r.Peer != row.Peer {
			kept = append(kept, r)
		}
	}
	content, err := json.MarshalIndent(append(kept, row), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}

// output is build/bench.json beside the nearest go.mod upwards.
func output() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "build", "bench.json"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod upwards from here")
		}
		dir = parent
	}
}
