package membership

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/quorate/quorate/ensemble/v1alpha1"
)

// Sources are where an Informer lists and watches each kind of object.
type Sources struct {
	Ensembles, Pods, StatefulSets, Nodes, Claims, Volumes cache.ListerWatcher
}

// SourcesOf are the whole cluster's objects. The client of the built-in kinds
// should speak protobuf (rest.Config.ContentType); that of Ensembles is NewClient's.
func SourcesOf(client kubernetes.Interface, ensembles rest.Interface) Sources {
	core, apps := client.CoreV1().RESTClient(), client.AppsV1().RESTClient()
	all := func(c cache.Getter, resource string) cache.ListerWatcher {
		return cache.NewListWatchFromClient(c, resource, metav1.NamespaceAll, fields.Everything())
	}
	return Sources{
		Ensembles: all(ensembles, "ensembles"), Pods: all(core, "pods"), StatefulSets: all(apps, "statefulsets"),
		Nodes: all(core, "nodes"), Claims: all(core, "persistentvolumeclaims"), Volumes: all(core, "persistentvolumes"),
	}
}

// NewClient makes a client of the Ensemble API.
func NewClient(config *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register the Ensemble API: %w", err)
	}
	c := rest.CopyConfig(config)
	c.GroupVersion, c.APIPath = &v1alpha1.GroupVersion, "/apis"
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of the Ensemble API: %w", err)
	}
	return client, nil
}
