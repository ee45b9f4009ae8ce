package lab

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
)

// startLimit is how long a component may take to serve, on a machine that is busy.
const startLimit = 2 * time.Minute

// probe is how a component says that it serves: 200.
type probe struct{ url, token string }

func (c *ControlPlane) apiProbe(path string) probe { return probe{c.endpoint + path, c.token} }

// probing trusts any certificate: it looks for life, and tells no secrets but the
// lab's own.
var probing = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
}

func (p probe) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := probing.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", p.url, resp.Status)
	}
	return nil
}

// run starts a component and waits until it serves. name is that of its log.
func (c *ControlPlane) run(ctx context.Context, component, name string, ready probe, args ...string) (*Process, error) {
	p, err := StartProcess(ctx, ProcessConfig{
		Name: name, Path: filepath.Join(c.Binaries, component), Args: args, Dir: c.Dir, LogDir: c.Logs(),
		Env: []string{"HOME=" + c.Dir},
	})
	if err != nil {
		return nil, err
	}
	if err := c.own(p); err != nil {
		return nil, err
	}
	ended := errors.New("ended")
	err = Await(ctx, startLimit, name+" to serve", func(ctx context.Context) error {
		select {
		case <-p.Done():
			return Stop(ended)
		default:
			return ready.ask(ctx)
		}
	})
	if err == nil {
		return p, nil
	}
	log, _ := os.ReadFile(p.Log())
	c.end(p)
	if errors.Is(err, ended) && strings.Contains(string(log), "address already in use") {
		return nil, fmt.Errorf("%s: %w", name, errPortTaken)
	}
	return nil, fmt.Errorf("%w; the end of its log:\n%s", err, lastLines(string(log), 15))
}

// own makes Close end the process.
func (c *ControlPlane) own(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(errors.New("the control plane is closed"), p.Close())
	}
	c.processes = append(c.processes, p)
	return nil
}

// end ends one process now.
func (c *ControlPlane) end(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.processes {
		if p == q {
			c.processes = append(c.processes[:i:i], c.processes[i+1:]...)
			break
		}
	}
	_ = p.Close() // only of a process that has ended already
}

// users are those that the lab's components log in as.
var users = []struct{ name, group string }{
	{"admin", "system:masters"},
	{"system:kube-controller-manager", ""},
	{"system:kube-scheduler", ""},
}

// writeKeys writes the API server's certificate, the key of the service accounts,
// the tokens, and the administrator's kubeconfig once its endpoint is known.
func (c *ControlPlane) writeKeys() error {
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost", "kubernetes.default.svc"})
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	c.authority = crt
	accounts, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	var tokens strings.Builder
	for _, u := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", c.tokenOf(u.name), u.name, u.name, u.group)
	}
	files := map[string][]byte{
		"apiserver.crt":        crt,
		"apiserver.key":        key,
		"service-accounts.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(accounts)}),
		"tokens.csv":           []byte(tokens.String()),
	}
	for name, content := range files {
		if err := os.WriteFile(c.path(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *ControlPlane) tokenOf(user string) string {
	if user == "admin" {
		return c.token
	}
	return c.token + "-" + strings.ReplaceAll(user, ":", "-")
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *ControlPlane) Kubeconfig() string {
	path, err := c.KubeconfigAs("admin")
	if err != nil {
		return c.path("admin.kubeconfig") // its absence says the rest
	}
	return path
}

// KubeconfigAs writes a kubeconfig for a user and returns its path. Users without a
// token of their own are impersonated by the administrator.
func (c *ControlPlane) KubeconfigAs(user string, groups ...string) (string, error) {
	auth := &clientcmdapi.AuthInfo{Token: c.token, Impersonate: user, ImpersonateGroups: groups}
	for _, u := range users {
		if u.name == user {
			auth = &clientcmdapi.AuthInfo{Token: c.tokenOf(user)}
		}
	}
	path := c.path(strings.ReplaceAll(user, ":", "-") + ".kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"lab": {Server: c.endpoint, CertificateAuthorityData: c.authority}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"user": auth},
		Contexts:       map[string]*clientcmdapi.Context{"lab": {Cluster: "lab", AuthInfo: "user"}},
		CurrentContext: "lab",
	}, path)
	if err != nil {
		return "", fmt.Errorf("write kubeconfig of %s: %w", user, err)
	}
	return path, nil
}
