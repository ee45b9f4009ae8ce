package bench

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecordKeepsOneRowPerNameAndPeer(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", []byte("module m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("room", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("room")
	Record(t, "a", 1, "ms", "floor", 2)
	Record(t, "b", 3, "ms", "floor", 0)
	Record(t, "a", 4, "ms", "floor", 2)
	Record(t, "a", 4, "ms", "lease", 8)

	got, err := Read(filepath.Join("..", "build", "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Name: "b", Value: 3, Unit: "ms", Peer: "floor"},
		{Name: "a", Value: 4, Unit: "ms", Peer: "floor", PeerValue: 2, Ratio: 2},
		{Name: "a", Value: 4, Unit: "ms", Peer: "lease", PeerValue: 8, Ratio: 0.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// One pair that ran on a busy machine moves neither the median nor the others' ratios.
func TestRecordPairs(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", []byte("module m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	RecordPairs(t, "a", []float64{90, 10, 99}, "pods/s", "none", []float64{100, 20, 100})
	got, err := Read(filepath.Join("build", "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{{Name: "a", Value: 90, Unit: "pods/s", Peer: "none", PeerValue: 100, Ratio: 0.9, RatioLow: 0.5, RatioHigh: 0.99}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got, want := got[0].Ratios(), "0.900 (0.500 to 0.990)"; got != want {
		t.Errorf("ratios: got %q, want %q", got, want)
	}
}

func TestKeepLosesNoRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := keep(path, Row{Name: string(rune('a' + i))}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if rows, err := Read(path); err != nil || len(rows) != 20 {
		t.Errorf("got %d rows, %v; want 20", len(rows), err)
	}
}
