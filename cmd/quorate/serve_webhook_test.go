package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// However many decisions come at once, none waits for its turn at our side, whatever
// bounds all other requests: with the bounds below, the second would wait for three
// hours.
func TestDecisionsWaitForNoTurn(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	pods := meta.NewDefaultRESTMapper(nil)
	pods.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.New(unbounded(&rest.Config{Host: server.URL, QPS: 0.0001, Burst: 1}), client.Options{
		Scheme: clientscheme.Scheme, Mapper: pods,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.Get(ctx, types.NamespacedName{Namespace: "data", Name: "zk-0"}, &corev1.Pod{}); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
}
