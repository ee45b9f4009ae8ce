package deploy

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A renewed certificate is believed at once: its issuer is a CA that stays, and that
// the API servers were told of long before. One that signed itself would have to be
// injected anew each time, and nobody would believe it meanwhile.
func TestCertManagersCertificateIsByACAThatStays(t *testing.T) {
	objects, err := Render(root, "examples/install")
	if err != nil {
		t.Fatal(err)
	}
	leaf := find(t, objects, "Certificate", "quorate-webhook")
	issuer := find(t, objects, "Issuer", field(t, leaf, "spec", "issuerRef", "name"))
	if _, self, _ := unstructured.NestedMap(issuer.Object, "spec", "selfSigned"); self {
		t.Fatalf("the certificate signs itself, by Issuer %s", issuer.GetName())
	}
	ca := find(t, objects, "Certificate", field(t, issuer, "spec", "ca", "secretName"))
	if is, _, _ := unstructured.NestedBool(ca.Object, "spec", "isCA"); !is || field(t, ca, "spec", "secretName") != ca.GetName() {
		t.Errorf("Certificate %s: got %v, want a CA in the Secret of that name", ca.GetName(), ca.Object["spec"])
	}
	// A CA that is renewed with the key it had still vouches for what it signed before.
	if got := field(t, ca, "spec", "privateKey", "rotationPolicy"); got != "Never" {
		t.Errorf("rotationPolicy of the CA: got %s, want Never", got)
	}
	if life, err := time.ParseDuration(field(t, ca, "spec", "duration")); err != nil || life < 5*365*24*time.Hour {
		t.Errorf("the CA lasts %v (%v), want years", life, err)
	}
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		got := find(t, objects, kind, "quorate-guard").GetAnnotations()["cert-manager.io/inject-ca-from"]
		if want := leaf.GetNamespace() + "/" + leaf.GetName(); got != want {
			t.Errorf("%s: CA injected from %q, want %s", kind, got, want)
		}
	}
}

// find the one object of that kind and name.
func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

// field is a string that the object must have.
func field(t *testing.T, o *unstructured.Unstructured, path ...string) string {
	t.Helper()
	s, _, err := unstructured.NestedString(o.Object, path...)
	if err != nil || s == "" {
		t.Fatalf("%s %s: no string at %v (%v)", o.GetKind(), o.GetName(), path, err)
	}
	return s
}
