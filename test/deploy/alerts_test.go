package deploy

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// alert is one of the shipped PrometheusRule.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "components/monitoring/prometheusrule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rule struct {
		Spec struct {
			Groups []struct{ Rules []alert }
		}
	}
	if err := yaml.Unmarshal(text, &rule); err != nil {
		t.Fatal(err)
	}
	for _, g := range rule.Spec.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// selected is the metrics that each alert selects, and the labels that it asks of them,
// by Prometheus' own parser.
func selected(t *testing.T, all []alert) []map[string][]string {
	t.Helper()
	var expressions []string
	for _, a := range all {
		expressions = append(expressions, a.Expr)
	}
	in, err := json.Marshal(expressions)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	parser := exec.CommandContext(t.Context(), "go", "run", ".")
	parser.Dir = filepath.Join(root, "..", "test", "promql")
	parser.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off") // it is a module of its own
	parser.Stdin, parser.Stderr = bytes.NewReader(in), &said
	out, err := parser.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	var selects []map[string][]string
	if err := json.Unmarshal(out, &selects); err != nil {
		t.Fatal(err)
	}
	return selects
}

// labelsAsked of each metric by any alert.
func labelsAsked(t *testing.T) map[string][]string {
	t.Helper()
	asked := map[string][]string{}
	for _, one := range selected(t, alerts(t)) {
		for metric, labels := range one {
			asked[metric] = append(asked[metric], labels...)
		}
	}
	return asked
}

var labelShown = regexp.MustCompile(`\$labels\.(\w+)`)

// Each alert says when, how bad and what to do, of what it knows.
func TestAlertsSayWhatToDo(t *testing.T) {
	all, known := alerts(t), map[string]bool{}
	for i, selects := range selected(t, all) {
		a := all[i]
		if known[a.Alert] || a.Alert == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("alert %q: is there twice, or does not say what is wrong and what to do", a.Alert)
		}
		known[a.Alert] = true
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("alert %s: severity is %q", a.Alert, s)
		}
		if _, err := time.ParseDuration(a.For); a.For != "" && err != nil {
			t.Errorf("alert %s: %v", a.Alert, err)
		}
		for _, shown := range labelShown.FindAllStringSubmatch(a.Annotations["summary"]+a.Annotations["description"], -1) {
			for metric, labels := range selects {
				if !slices.Contains(labels, shown[1]) {
					t.Errorf("alert %s shows label %s, and does not keep it of %s", a.Alert, shown[1], metric)
				}
			}
		}
	}
	if len(known) < 10 {
		t.Errorf("alerts: got %v, want all", known)
	}
}

// ofOthers are metrics of the alerts that the lab has not got, each with the reason.
var ofOthers = map[string]string{
	"up": "Prometheus' own",
	"apiserver_admission_webhook_fail_open_count": "is not there before a webhook failed open",
}

// byPrometheus are labels that it gives to whatever it scrapes.
var byPrometheus = []string{"instance", "job"}

// series are the labels of each metric, in what a server exports.
func series(exported string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(exported) {
		end := strings.IndexAny(line, "{ ")
		if end <= 0 || line[0] == '#' {
			continue
		}
		labels := all[line[:end]]
		for _, label := range labelExported.FindAllStringSubmatch(line, -1) {
			if !slices.Contains(labels, label[1]) {
				labels = append(labels, label[1])
			}
		}
		all[line[:end]] = labels
	}
	return all
}

var labelExported = regexp.MustCompile(`[{,](\w+)="`)
