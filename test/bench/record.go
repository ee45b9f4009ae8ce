package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// Row is one measurement.
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
	// Ratio of Value to PeerValue; of runs in pairs the median of their ratios, which
	// is not the ratio of the two medians.
	Ratio float64 `json:"ratio"`
	// RatioLow and RatioHigh are the ends between which the ratios of pairs lie.
	RatioLow  float64 `json:"ratio_low,omitempty"`
	RatioHigh float64 `json:"ratio_high,omitempty"`
}

// Record writes one row to build/bench.json of this repository; a row of the same
// name and peer is replaced. It fails the benchmark if it cannot.
func Record(tb testing.TB, name string, value float64, unit, peer string, peerValue float64) {
	tb.Helper()
	row := Row{Name: name, Value: value, Unit: unit, Peer: peer, PeerValue: peerValue}
	if peerValue != 0 {
		row.Ratio = value / peerValue
	}
	record(tb, row)
}

// RecordPairs writes one row of runs in pairs, each with a run of the peer beside it:
// the medians, and the median of the pairs' ratios with the ends of their spread. What
// slows a machine down for a while slows a pair down, and not its ratio.
func RecordPairs(tb testing.TB, name string, values []float64, unit, peer string, peerValues []float64) {
	tb.Helper()
	if len(values) == 0 || len(values) != len(peerValues) {
		tb.Fatalf("record %q: %d runs beside %d of the peer", name, len(values), len(peerValues))
	}
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / peerValues[i]
	}
	record(tb, Row{Name: name, Value: median(values), Unit: unit, Peer: peer, PeerValue: median(peerValues),
		Ratio: median(ratios), RatioLow: slices.Min(ratios), RatioHigh: slices.Max(ratios)})
}

func record(tb testing.TB, row Row) {
	tb.Helper()
	path, err := output()
	if err == nil {
		err = keep(path, row)
	}
	if err != nil {
		tb.Fatalf("record %q: %v", row.Name, err)
	}
	tb.Log(row)
}

// String is the row as a sentence.
func (r Row) String() string {
	return fmt.Sprintf("%s: %.4g %s, %s: %.4g, ratio %s", r.Name, r.Value, r.Unit, r.Peer, r.PeerValue, r.Ratios())
}

// Ratios is the ratio, and where it is one of pairs, between which ends they lie.
func (r Row) Ratios() string {
	if r.RatioHigh == 0 {
		return fmt.Sprintf("%.3f", r.Ratio)
	}
	return fmt.Sprintf("%.3f (%.3f to %.3f)", r.Ratio, r.RatioLow, r.RatioHigh)
}

// median of at least one value; of an even number of them the greater in the middle.
func median(xs []float64) float64 {
	return slices.Sorted(slices.Values(xs))[len(xs)/2]
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
