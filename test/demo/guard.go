package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/deploy"
	"github.com/quorate/quorate/ensemble/v1alpha1"
	"github.com/quorate/quorate/test/lab"
)

// startGuard runs quorate serve with the guard and the status controller, with the
// rights that it is shipped with. Its webhooks are not registered yet: it only gets to
// know the Ensembles.
func startGuard(ctx context.Context, s *stage) error {
	c := s.cluster
	s.out.say("Starting quorate serve: the eviction guard, and the controller that keeps status.")
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "-k", filepath.Join(root, "deploy/base/rbac")); err != nil {
		return err
	}
	if c.guard, err = freeAddress(ctx); err != nil {
		return err
	}
	if c.ca, err = c.certify(); err != nil {
		return err
	}
	if err := c.serveGuard(ctx, s); err != nil {
		return err
	}
	s.out.say("It allows nothing before it has known an Ensemble for 90 s: what was allowed earlier could still happen.")
	s.out.say("In a cluster this new nothing was, and its administrator says so, to spare us the wait.")
	return c.arm(ctx)
}

// arm says in the Ensemble's status what the guard would find out by waiting.
func (c *cluster) arm(ctx context.Context) error {
	var e v1alpha1.Ensemble
	if err := c.ensembles.Get().Namespace(namespace).Resource("ensembles").Name(guarded).Do(ctx).Into(&e); err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"status":{"guard":{"uid":%q,"armed":true}}}`, e.UID)
	_, err := c.Kubectl(ctx, "patch", "ensemble", guarded, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
	return err
}

func (c *cluster) serveGuard(ctx context.Context, s *stage) error {
	kubeconfig, err := c.KubeconfigAs("system:serviceaccount:quorate-system:quorate",
		"system:serviceaccounts", "system:serviceaccounts:quorate-system")
	if err != nil {
		return err
	}
	config := filepath.Join(c.Dir, "guard.yaml")
	text := fmt.Sprintf(`apiVersion: config.quorate.io/v1alpha1
kind: QuorateConfiguration
health: {bindAddress: ""}
metrics: {bindAddress: ""}
webhook: {enabled: true, bindAddress: %q, certificates: {source: Files, directory: %q}}
statusController: {enabled: true}
selfAudit: {enabled: false}
`, c.guard, c.Dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	process, err := lab.StartProcess(ctx, lab.ProcessConfig{
		Name: "quorate-guard", Path: c.binary, LogDir: c.Logs(), Env: []string{"POD_NAMESPACE=quorate-system", "POD_NAME=quorate-0"},
		Args: []string{"serve", "--config=" + config, "--kubeconfig=" + kubeconfig},
	})
	if err != nil {
		return err
	}
	s.onClose(process)
	err = lab.Await(ctx, time.Minute, "the guard", func(ctx context.Context) error {
		select {
		case <-process.Done():
			return lab.Stop(errors.New("it ended"))
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.guard)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(process.Log())
		return fmt.Errorf("%w; the end of its log:\n%s", err, log[max(0, len(log)-2000):])
	}
	return nil
}

// certify makes a certificate for 127.0.0.1, signed by itself.
func (c *cluster) certify() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "quorate"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca, errors.Join(
		os.WriteFile(filepath.Join(c.Dir, "tls.crt"), ca, 0o600),
		os.WriteFile(filepath.Join(c.Dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

// register applies a webhook configuration as it is shipped, with the address on
// this machine in place of the Service.
func (c *cluster) register(ctx context.Context, file string) error {
	text, err := deploy.Files.ReadFile(file)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(line, "service: {name: quorate-webhook, namespace: quorate-system, path: "); ok {
			path, _, _ := strings.Cut(path, ",")
			fmt.Fprintf(&out, "    url: https://%s%s\n    caBundle: %s\n", c.guard, path, base64.StdEncoding.EncodeToString(c.ca))
			continue
		}
		out.WriteString(line)
	}
	name := filepath.Join(c.Dir, filepath.Base(file))
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "apply", "-f", name)
	return err
}

// drainSafely drains three hosts at once: who would break the quorum is refused with
// the reason, tried again by kubectl itself, and let go once that is safe.
func drainSafely(ctx context.Context, s *stage) error {
	c := s.cluster
	s.out.say("The guard's webhooks are registered. From now on evictions are judged, as the namespace is labelled.")
	for _, file := range []string{deploy.ValidatingWebhooks, deploy.MutatingWebhooks} {
		if err := c.register(ctx, file); err != nil {
			return err
		}
	}
	if err := c.judged(ctx); err != nil {
		return err
	}
	if err := c.armed(ctx); err != nil {
		return err
	}
	nodes, err := c.nodesOf(ctx, guarded)
	if err != nil {
		return err
	}
	s.out.say("%s are drained at once. Only %d of %d voters may be away:", strings.Join(nodes, ", "), replicas-replicas/2-1, replicas)
	said := make([]string, len(nodes))
	drains, drainCtx := errgroup.WithContext(ctx)
	for i, node := range nodes {
		drains.Go(func() (err error) {
			said[i], err = c.Kubectl(drainCtx, "drain", node, "--timeout=110s")
			return err
		})
	}
	if err := drains.Wait(); err != nil {
		return err
	}
	refusals, reason := 0, ""
	for line := range strings.Lines(strings.Join(said, "")) {
		if !strings.Contains(line, "denied the request") {
			continue
		}
		if refusals++; reason == "" || !strings.Contains(reason, "would leave") { // the arithmetic tells most
			reason = line
		}
	}
	if refusals == 0 {
		return errors.New("no drain was ever refused")
	}
	s.out.quote(wrapped(strings.TrimSpace(reason), 100))
	s.out.say("kubectl drain was refused %d times, tried again by itself, and was let go when it was safe:", refusals)
	for _, node := range nodes {
		if _, err := c.Kubectl(ctx, "uncordon", node); err != nil {
			return err
		}
	}
	_, err = s.awaitMembers(ctx, guarded, allServe)
	return err
}

// judged waits until the API server, which learns of webhooks a moment late, asks the
// guard, who lets nobody delete the StatefulSet of an ensemble that lives.
func (c *cluster) judged(ctx context.Context) error {
	return lab.Await(ctx, time.Minute, "the guard to be asked", func(ctx context.Context) error {
		err := c.Client.AppsV1().StatefulSets(namespace).Delete(ctx, guarded, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("delete StatefulSet %s dry: got %w, want a 403", guarded, err)
		}
		return nil
	})
}

// armed waits until the guard may allow something.
func (c *cluster) armed(ctx context.Context) error {
	return lab.Await(ctx, 3*time.Minute, "the guard to be armed", func(ctx context.Context) error {
		var e v1alpha1.Ensemble
		if err := c.ensembles.Get().Namespace(namespace).Resource("ensembles").Name(guarded).Do(ctx).Into(&e); err != nil {
			return err
		}
		if g := e.Status.Guard; g == nil || !g.Armed {
			return fmt.Errorf("status.guard is %+v", g)
		}
		return nil
	})
}

// nodesOf are three nodes of an ensemble's members.
func (c *cluster) nodesOf(ctx context.Context, app string) ([]string, error) {
	text, err := c.Kubectl(ctx, "get", "pods", "-n", namespace, "-l", "app="+app, "-o", "jsonpath={.items[*].spec.nodeName}")
	if err != nil {
		return nil, err
	}
	nodes := strings.Fields(text)
	slices.Sort(nodes)
	if nodes = slices.Compact(nodes); len(nodes) < 3 {
		return nil, fmt.Errorf("the members are on %d hosts only", len(nodes))
	}
	return nodes[:3], nil
}
