//go:build deps

// Package deps keeps the versions of modules that rooms are about to use. It goes
// when they do.
package deps

import (
	_ "github.com/Shopify/toxiproxy/v2"
	_ "github.com/anishathalye/porcupine"
	_ "github.com/charmbracelet/lipgloss"
	_ "github.com/cockroachdb/datadriven"
	_ "github.com/go-zookeeper/zk"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/uuid"
	_ "github.com/hashicorp/golang-lru/v2/expirable"
	_ "github.com/open-policy-agent/cert-controller/pkg/rotator"
	_ "github.com/prometheus/client_golang/prometheus/testutil"
	_ "github.com/spf13/cobra"
	_ "go.etcd.io/etcd/client/v3"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "k8s.io/api/admission/v1"
	_ "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	_ "k8s.io/apimachinery/pkg/apis/meta/v1"
	_ "k8s.io/apiserver/pkg/authentication/user"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/component-base/config/options"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/testutil"
	_ "k8s.io/klog/v2/ktesting"
	_ "k8s.io/kube-scheduler/config/v1"
	_ "k8s.io/kube-scheduler/extender/v1"
	_ "k8s.io/kubectl/pkg/drain"
	_ "k8s.io/utils/ptr"
	_ "pgregory.net/rapid"
	_ "sigs.k8s.io/controller-runtime"
	_ "sigs.k8s.io/controller-runtime/pkg/envtest"
	_ "sigs.k8s.io/kustomize/api/krusty"
	_ "sigs.k8s.io/yaml"
)
