package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// release of somebody's operator: a Go module that holds its CustomResourceDefinitions.
type release struct {
	module string // path@version
	sum    string // of all its files, as go.sum has it
	files  []string
}

var operators = []release{
	{
		module: "github.com/cert-manager/cert-manager@v1.21.2", sum: "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
		files: []string{"deploy/crds/cert-manager.io_certificates.yaml", "deploy/crds/cert-manager.io_issuers.yaml"},
	},
	{
		module: "github.com/prometheus-operator/prometheus-operator@v0.85.0", sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		files: []string{
			"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
			"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
		},
	},
}

// Definitions returns the files that define the kinds of cert-manager and of the
// Prometheus operator which deploy/ has objects of. Their modules, 4 MB each, are
// downloaded into the module cache the first time, and belong to no go.mod.
func Definitions(ctx context.Context) ([]string, error) { return download(ctx, operators) }

func download(ctx context.Context, releases []release) ([]string, error) {
	args := []string{"mod", "download", "-json"}
	for _, r := range releases {
		args = append(args, r.module)
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = os.TempDir()                                                                    // where no go.sum is added to
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "GOSUMDB=off") // the sums are here
	cmd.Stdout, cmd.Stderr = &out, &said
	failed := cmd.Run()
	var files []string
	answers := json.NewDecoder(&out)
	for _, r := range releases {
		var got struct{ Dir, Sum, Error string }
		err := answers.Decode(&got)
		switch {
		case errors.Is(err, io.EOF) && failed != nil:
			return nil, fmt.Errorf("download %s: %w\n%s", r.module, failed, &said)
		case err != nil:
			return nil, fmt.Errorf("download %s: %w", r.module, err)
		case got.Error != "":
			return nil, fmt.Errorf("download %s: %s", r.module, got.Error)
		case got.Sum != r.sum:
			return nil, fmt.Errorf("download %s: got the sum %s, want %s", r.module, got.Sum, r.sum)
		}
		for _, file := range r.files {
			files = append(files, filepath.Join(got.Dir, filepath.FromSlash(file)))
		}
	}
	return files, nil
}
