package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/quorate/quorate/leaderelection"
)

// oneLease is an API server that knows one Lease, and how to reach it.
func oneLease(t *testing.T, lease *coordinationv1.Lease) (kubeconfig string) {
	t.Helper()
	path := fmt.Sprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s", lease.Namespace, lease.Name)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, lease)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(lease) // the client tells what it did not get
	}))
	t.Cleanup(server.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x}}], clusters: [{name: x, cluster: {server: %q}}]}", server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// A tombstone is taken away, and nothing else is.
func TestUnseal(t *testing.T) {
	for name, c := range map[string]struct{ holder, after, says string }{
		"sealed":      {leaderelection.Tombstone, "", "data/x: replicas that know only the Lease can lead again\n"},
		"held by one": {"somebody", "somebody", "data/x: the Lease has no tombstone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			lease := &coordinationv1.Lease{
				TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "x"},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &c.holder},
			}
			kubeconfig := oneLease(t, lease)
			var stdout, stderr bytes.Buffer
			args := []string{"leaders", "unseal", "x", "--namespace=data", "--force", "--kubeconfig=" + kubeconfig}
			if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stdout.String() != c.says {
				t.Errorf("exit code and message: got %d, %q and %q, want %q", code, stdout.String(), stderr.String(), c.says)
			}
			got := ""
			if lease.Spec.HolderIdentity != nil {
				got = *lease.Spec.HolderIdentity
			}
			if got != c.after {
				t.Errorf("holder: got %q, want %q", got, c.after)
			}
		})
	}
}

// Who still elects by ZooKeeper is looked for, and named.
func TestUnsealLooksInZooKeeperFirst(t *testing.T) {
	sealed := leaderelection.Tombstone
	kubeconfig := oneLease(t, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &sealed},
	})
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"leaders", "unseal", "x", "--kubeconfig=" + kubeconfig}, &stdout, &stderr)
	if want := "name the servers by --leader-elect-zookeeper-servers"; code != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("without servers: got %d and %q, want 1 and %q", code, stderr.String(), want)
	}
	for name, c := range map[string]struct {
		e    leaderelection.Election
		want string
	}{
		"nobody":      {leaderelection.Election{Transitions: 7}, "<nil>"},
		"a leader":    {leaderelection.Election{Holder: "a"}, "there still are a: stop"},
		"a standby":   {leaderelection.Election{Standbys: []string{"b"}}, "there still are b: stop"},
		"all of them": {leaderelection.Election{Holder: "a", Standbys: []string{"b", "c"}}, "there still are b, c, a: stop"},
	} {
		if got := fmt.Sprint(takesPart(c.e)); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
