package certs

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func put(t *testing.T, dir string, data map[string][]byte) {
	t.Helper()
	for _, name := range []string{keyServer, keyKey} {
		next := filepath.Join(dir, "."+name)
		if err := os.WriteFile(next, data[name], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	terms := rotation(nil, nil, nil).terms
	start := time.Now()
	first, _, err := terms.next(nil, nil, start)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := terms.next(nil, nil, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := NewFiles(dir, time.Millisecond, nil); err == nil || !strings.Contains(err.Error(), "tls.crt") {
		t.Errorf("empty directory: got %v, want an error that names tls.crt", err)
	}
	put(t, dir, first)
	metrics := NewMetrics(prometheus.NewRegistry())
	files, err := NewFiles(dir, 10*time.Millisecond, metrics)
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- files.Start(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("end: %v", err)
		}
	}()
	put(t, dir, second)
	want, err := tls.X509KeyPair(second[keyServer], second[keyKey])
	if err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := start.Add(time.Minute); ; <-poll.C {
		got, err := files.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		expiry := testutil.ToFloat64(metrics.expiry.WithLabelValues("serving"))
		if got.Leaf.Equal(want.Leaf) && int64(expiry) == want.Leaf.NotAfter.Unix() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("served until %v, metric %v, want the new certificate until %v", got.Leaf.NotAfter, expiry, want.Leaf.NotAfter)
		}
	}
}
