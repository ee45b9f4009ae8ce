package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
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

// What people configure is not lost beside the component, which needs it to say where
// the certificates are.
func TestCertManagerKeepsWhatPeopleConfigure(t *testing.T) {
	objects, err := Render(root, "examples/install")
	if err != nil {
		t.Fatal(err)
	}
	shipped := field(t, find(t, objects, "ConfigMap", "quorate"), "data", "quorate.yaml")
	for _, want := range []string{"source: Files", "directory: /var/run/quorate/tls"} {
		if !strings.Contains(shipped, want) {
			t.Errorf("examples/install configures\n%swant %s", shipped, want)
		}
	}
	folder, configured := t.TempDir(), shipped+"shutdown: {timeout: 7s}\n"
	install, err := filepath.Abs(filepath.Join(root, "examples", "install"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"quorate.yaml": configured, "kustomization.yaml": string(own(t, install, folder))}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if objects, err = Render(folder, "."); err != nil {
		t.Fatal(err)
	}
	if got := field(t, find(t, objects, "ConfigMap", "quorate"), "data", "quorate.yaml"); got != configured {
		t.Errorf("configured is\n%swant\n%s", got, configured)
	}
}

// own is an example's kustomization as of a copy of it.
func own(t *testing.T, example, folder string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Rel(folder, filepath.Join(example, "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(text, []byte("../../"), []byte(deploy+"/"))
}
