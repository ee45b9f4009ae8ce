package leaderelection_test

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/leaderelection"
	"github.com/quorate/quorate/leaderelection/zookeepertest"
)

// noMapper keeps the example's manager from asking an API server.
func noMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	return meta.NewDefaultRESTMapper(nil), nil
}

func exampleSessionOn(ctx context.Context, tree *zookeepertest.Tree) *leaderelection.Session {
	session, err := leaderelection.Dial(ctx, leaderelection.SessionConfig{
		Open: func(context.Context) (leaderelection.Conn, error) { return tree.Open(), nil },
	})
	if err != nil {
		panic(err)
	}
	return session
}
