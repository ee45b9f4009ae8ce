package config

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// Reloaded are the fields, with all below them, that take effect in a running
// process. Changes of any other wait for a restart.
var Reloaded = []string{"logging.verbosity", "selfAudit", "statusController.leaderElection"}

// Fixed are fields below Reloaded that wait all the same: replicas that hold an
// election by different names, or by none, know nothing of each other; and who was not
// put together to audit does not begin to.
var Fixed = []string{
	"selfAudit.enabled",
	"statusController.leaderElection.leaderElect",
	"statusController.leaderElection.resourceName", "statusController.leaderElection.resourceNamespace",
}

// Source is a file that a configuration comes from.
type Source struct {
	// Path of the file; empty: the defaults.
	Path string
	// Override is applied to what was read, before it is validated again: flags win
	// over the file. It may be nil.
	Override func(*QuorateConfiguration) error

	last []byte
}

// Load reads the file.
func (s *Source) Load() (*QuorateConfiguration, error) {
	c := Default()
	if s.Path != "" {
		data, err := os.ReadFile(s.Path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		s.last = data
		if c, err = Parse(data); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Path, err)
		}
	}
	if s.Override != nil {
		if err := s.Override(c); err != nil {
			return nil, err
		}
	}
	var problems []string
	for _, p := range c.Validate() {
		problems = append(problems, p.Error())
	}
	if problems != nil {
		return nil, fmt.Errorf("configuration: %s", strings.Join(problems, "; "))
	}
	return c, nil
}

// Change is what a reload found.
type Change struct {
	// Config that the file now says; nil where Err is set.
	Config *QuorateConfiguration
	// Applies and Waits are the fields that changed since the process started or was
	// last told: those that take effect, and those that wait for a restart.
	Applies, Waits []string
	// Err is why the file can't be used. What was in force stays.
	Err error
}

// Run looks at the file again and again, and tells what changed, until ctx ends.
// started is the configuration that the process runs with. The file is read, not
// watched: a ConfigMap's volume swaps symbolic links, and loses watches.
func (s *Source) Run(ctx context.Context, started *QuorateConfiguration, every time.Duration, tell func(Change)) {
	if s.Path == "" {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	applied := started
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if data, err := os.ReadFile(s.Path); err == nil && bytes.Equal(data, s.last) {
			continue
		}
		next, err := s.Load()
		if err != nil {
			klog.FromContext(ctx).Error(err, "Kept the configuration in force: the new one can't be used")
			tell(Change{Err: err})
			continue
		}
		change := Change{Config: next}
		change.Applies, _ = split(differences(applied, next))
		_, change.Waits = split(differences(started, next))
		applied = next
		tell(change)
	}
}

// differences are the fields in which the two differ.
func differences(a, b *QuorateConfiguration) []string {
	return differ(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "")
}

func differ(a, b reflect.Value, path string) []string {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return nil
	}
	if a.Kind() != reflect.Struct || a.NumField() <= 1 {
		return []string{path}
	}
	var paths []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() {
			paths = append(paths, differ(a.Field(i), b.Field(i), strings.Trim(path+"."+name, "."))...)
		}
	}
	return paths
}

func split(paths []string) (applies, waits []string) {
	for _, path := range paths {
		if reloaded(path) {
			applies = append(applies, path)
		} else {
			waits = append(waits, path)
		}
	}
	return applies, waits
}

func reloaded(path string) bool {
	if slices.Contains(Fixed, path) {
		return false
	}
	for _, r := range Reloaded {
		if path == r || strings.HasPrefix(path, r+".") {
			return true
		}
	}
	return false
}
