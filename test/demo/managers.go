package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/test/lab"
)

const managerProgram = "kube-controller-manager"

// elected is a manager that runs, and whose it is.
type elected struct {
	name  string // of the copy of quorate elect that runs it
	token int64
	pid   int
}

// managersOf are the processes that run for an election's managers, as the kernel
// lists them: no program's word is taken for it.
func managersOf(kubeconfig string) ([]elected, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var running []elected
	for _, dir := range processes {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline")) // nothing of one that has ended
		if args := strings.Split(string(line), "\x00"); err != nil || filepath.Base(args[0]) != managerProgram || !slices.Contains(args, "--kubeconfig="+kubeconfig) {
			continue
		}
		environment, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue // it has just ended
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		if t, ok := termOf(string(environment)); ok {
			t.pid = pid
			running = append(running, t)
		}
	}
	return running, nil
}

// termOf is what quorate elect tells a command in its environment.
func termOf(environment string) (t elected, ok bool) {
	for variable := range strings.SplitSeq(environment, "\x00") {
		switch key, value, _ := strings.Cut(variable, "="); key {
		case "QUORATE_IDENTITY":
			t.name, _, _ = strings.Cut(value, "_")
		case "QUORATE_FENCING_TOKEN":
			t.token, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return t, t.name != "" && t.token > 0
}

// cleansTokens waits until a bootstrap token that has expired is gone, which is the
// work of the elected manager, and of nobody else.
func (c *cluster) cleansTokens(ctx context.Context) error {
	secrets := c.Client.CoreV1().Secrets(metav1.NamespaceSystem)
	token, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bootstrap-token-"},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{"expiration": time.Now().Add(-time.Hour).Format(time.RFC3339)},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create a bootstrap token: %w", err)
	}
	return lab.Await(ctx, time.Minute, "its work", func(ctx context.Context) error {
		_, err := secrets.Get(ctx, token.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errors.New("the token that has expired is still there")
		}
		return err
	})
}
