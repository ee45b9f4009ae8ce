package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const header = "apiVersion: config.quorate.io/v1alpha1\nkind: QuorateConfiguration\n"

func TestProblemsNameLineFieldAndWayOut(t *testing.T) {
	tests := map[string]struct {
		file string
		want []string
	}{
		"nothing":           {"", []string{"empty: begin with apiVersion: config.quorate.io/v1alpha1 and kind: QuorateConfiguration"}},
		"no kind":           {"apiVersion: config.quorate.io/v1alpha1\n", []string{`kind: "" is not known: write QuorateConfiguration`}},
		"other version":     {"apiVersion: config.quorate.io/v9\nkind: QuorateConfiguration\n", []string{`line 1: apiVersion: "config.quorate.io/v9" is not known: write config.quorate.io/v1alpha1`}},
		"not YAML":          {header + "webhook: [\n", []string{"not YAML: yaml: line 3: did not find expected node content"}},
		"two documents":     {header + "---\n" + header, []string{"more than one document: leave one"}},
		"misspelt section":  {header + "webhok: {enabled: false}\n", []string{"line 3: webhok: unknown field: did you mean webhook?"}},
		"misspelt field":    {header + "webhook:\n  enabled: true\n  bindAdress: :1\n", []string{"line 5: webhook.bindAdress: unknown field: did you mean bindAddress?"}},
		"wrong case":        {header + "health: {BindAddress: ':1'}\n", []string{"line 3: health.BindAddress: unknown field: did you mean bindAddress?"}},
		"unknown field":     {header + "shutdown:\n  grace: 5s\n", []string{"line 4: shutdown.grace: unknown field; known here: delay, timeout"}},
		"twice":             {header + "shutdown:\n  delay: 5s\n  delay: 6s\n", []string{"line 5: shutdown.delay: given twice: remove one"}},
		"string for bool":   {header + "extender:\n  enabled: maybe\n", []string{`line 4: extender.enabled: "maybe" is not true or false`}},
		"number for string": {header + "health:\n  bindAddress: 8081\n", []string{`line 4: health.bindAddress: "8081" is not host:port, e.g. ":9443"`}},
		"string for number": {header + "clientConnection:\n  burst: many\n", []string{`line 4: clientConnection.burst: "many" is not a number in the range of int`}},
		"list for mapping":  {header + "webhook: []\n", []string{"line 3: webhook: must be a mapping of fields"}},
		"no duration":       {header + "shutdown:\n  delay: soon\n", []string{`line 4: shutdown.delay: "soon": time: invalid duration "soon"`}},
		"number for duration": {header + "shutdown:\n  delay: 5\n",
			[]string{`line 4: shutdown.delay: "5" is not a number with its unit, e.g. 5s`}},
		"all at once": {header + "webhook:\n  enabled: 3\n  certificates:\n    surce: Files\n",
			[]string{`line 4: webhook.enabled: "3" is not true or false`, "line 6: webhook.certificates.surce: unknown field: did you mean source?"}},
		"unknown source": {header + "webhook:\n  certificates:\n    source: Vault\n",
			[]string{`line 5: webhook.certificates.source: "Vault" is not known: write SelfManaged or Files`}},
		"renewed at once": {header + "webhook:\n  certificates:\n    validity: 24h\n",
			[]string{"line 4: webhook.certificates.renewBefore: 2160h0m0s must be below validity (24h0m0s), or every certificate is renewed at once"}},
		"zookeeper without servers": {header + "statusController:\n  leaderElection:\n    resourceLock: zookeeper\n",
			[]string{`line 4: statusController.leaderElection.zooKeeper.servers: "" is not host:port; write e.g. zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181/chroot`}},
		"servers without zookeeper": {header + "statusController:\n  leaderElection:\n    zooKeeper: {servers: 'zk:2181'}\n",
			[]string{"line 5: statusController.leaderElection.zooKeeper.servers: goes with resourceLock: zookeeper; set it, or remove the servers"}},
		"lease below deadline": {header + "statusController: {leaderElection: {leaseDuration: 9s}}\n",
			[]string{"line 3: statusController.leaderElection.leaseDuration: 9s must be above renewDeadline (10s)"}},
		"open extender": {header + "extender:\n  enabled: true\n  bindAddress: ':10270'\n",
			[]string{`line 5: extender.bindAddress: ":10270" is not loopback and has no TLS: bind 127.0.0.1, beside the scheduler, or set extender.tls`}},
		"nothing to serve": {header + "webhook: {enabled: false}\nstatusController: {enabled: false}\n",
			[]string{"line 3: webhook.enabled: nothing is left to serve: enable one of webhook, statusController and extender"}},
		"log format": {header + "logging:\n  format: xml\n",
			[]string{`line 4: logging.format: Invalid value: "xml": Unsupported log format`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.file))
			if err == nil {
				t.Fatalf("Parse accepted the file, want %q", tc.want)
			}
			if diff := cmp.Diff(tc.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAbsentFieldsHaveDefaults(t *testing.T) {
	got, err := Parse([]byte(header + "webhook:\n  certificates:\n    source: Files\nlogging: {format: json, verbosity: 3}\nshutdown: {delay: 1m30s}\nhealth:\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Webhook.Certificates.Source = Files
	want.Logging.Format, want.Logging.Verbosity = "json", 3
	want.Shutdown.Delay = span(90 * time.Second)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// What the defaults are written as is read back as the same: nothing of the
// configuration is out of a file's reach.
func TestDefaultRoundTrips(t *testing.T) {
	text, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil {
		t.Fatalf("parse the written defaults: %v\n%s", err, text)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestChangesApplyWaitOrAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.yaml")
	write := func(body string) {
		t.Helper()
		next := path + ".next"
		if err := os.WriteFile(next, []byte(header+body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	s := &Source{Path: path, Override: func(c *QuorateConfiguration) error {
		c.Health.BindAddress = ":1"
		return nil
	}}
	started, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	changes, ended := make(chan Change), make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx, started, time.Millisecond, func(c Change) { changes <- c })
	}()
	defer func() { stop(); <-ended }()

	steps := []struct {
		body           string
		applies, waits []string
		err            string
	}{
		{body: "selfAudit: {interval: 2m}\n", applies: []string{"selfAudit.interval"}},
		{body: "selfAudit: {enabled: false, interval: 2m}\n", waits: []string{"selfAudit.enabled"}},
		{body: "selfAudit: {interval: 2m}\nhealth: {bindAddress: ':2'}\nwebhook: {enabled: false}\n", waits: []string{"webhook.enabled"}},
		{body: "statusController: {leaderElection: {leaderElect: false, resourceName: other, resourceNamespace: other, retryPeriod: 1s}}\n", applies: []string{"statusController.leaderElection.retryPeriod", "selfAudit.interval"}, waits: []string{
			"statusController.leaderElection.leaderElect", "statusController.leaderElection.resourceName", "statusController.leaderElection.resourceNamespace",
		}},
		{body: "selfAudit: {interval: 2m}\n", applies: []string{"statusController.leaderElection.retryPeriod", "selfAudit.interval"}},
		{body: "selfAudit: {intervall: 2m}\n", err: "line 3: selfAudit.intervall: unknown field: did you mean interval?"},
		{
			body:    "statusController: {leaderElection: {resourceLock: zookeeper, zooKeeper: {servers: 'zk:2181'}}}\nlogging: {verbosity: 4}\n",
			applies: []string{"logging.verbosity", "statusController.leaderElection.resourceLock", "statusController.leaderElection.zooKeeper.servers", "selfAudit.interval"},
		},
	}
	for _, step := range steps {
		write(step.body)
		var got Change
		select {
		case got = <-changes:
		case <-time.After(time.Minute):
			t.Fatalf("nothing was told of %q", step.body)
		}
		if step.err != "" {
			var p Problem
			if !errors.As(got.Err, &p) || p.Error() != step.err {
				t.Errorf("error of %q: got %v, want %s", step.body, got.Err, step.err)
			}
			continue
		}
		if diff := cmp.Diff([][]string{step.applies, step.waits}, [][]string{got.Applies, got.Waits}); diff != "" || got.Err != nil {
			t.Errorf("change by %q (-want +got): %v\n%s", step.body, got.Err, diff)
		}
		if got.Config.Health.BindAddress != ":1" {
			t.Errorf("health.bindAddress: got %s, want the override :1", got.Config.Health.BindAddress)
		}
	}
}
