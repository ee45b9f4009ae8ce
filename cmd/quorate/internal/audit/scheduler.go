package audit

import (
	"net/url"
	"slices"
	"strings"

	configv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// Resource is what a member pod requests, so that the scheduler asks us for it.
const Resource = "quorate.io/voter"

// Scheduler looks whether a KubeSchedulerConfiguration asks the extender at that
// address as it should.
func Scheduler(file string, text []byte, address string) []Problem {
	object := "KubeSchedulerConfiguration " + file
	var c configv1.KubeSchedulerConfiguration
	if err := yaml.Unmarshal(text, &c); err != nil {
		return []Problem{problem(Unreadable, object, "can't be read: %v", err)}
	}
	k := slices.IndexFunc(c.Extenders, func(e configv1.Extender) bool {
		return slices.ContainsFunc(e.ManagedResources, func(r configv1.ExtenderManagedResource) bool { return r.Name == Resource })
	})
	if k < 0 {
		k = slices.IndexFunc(c.Extenders, func(e configv1.Extender) bool { return asks(e.URLPrefix, address) })
	}
	if k < 0 {
		return []Problem{problem(SchedulerConfig, object, "no extender manages %s, so that members are placed by nobody's rule: add the one of components/scheduler", Resource)}
	}
	var problems []Problem
	found := func(format string, args ...any) {
		problems = append(problems, problem(SchedulerConfig, object, format, args...))
	}
	e := c.Extenders[k]
	if !asks(e.URLPrefix, address) {
		found("urlPrefix %s is not us (%s): the extender beside the scheduler must be the one that it asks", e.URLPrefix, address)
	}
	if e.FilterVerb != "filter" {
		found("filterVerb is %q, so that nothing is refused: set it to filter", e.FilterVerb)
	}
	if e.Ignorable {
		found("ignorable is true, so that members are placed unjudged while we are away: set it to false")
	}
	if !e.NodeCacheCapable {
		found("nodeCacheCapable is false, which is thirty times slower in a cluster of 5000 nodes: set it to true")
	}
	i := slices.IndexFunc(e.ManagedResources, func(r configv1.ExtenderManagedResource) bool { return r.Name == Resource })
	switch {
	case i < 0:
		found("managedResources does not name %s, so that every pod of the cluster waits for us: name it", Resource)
	case !e.ManagedResources[i].IgnoredByScheduler:
		found("%s is not ignoredByScheduler, so that members stay pending for want of it: set it to true", Resource)
	}
	return problems
}

// asks reports whether the URL is that of the address.
func asks(prefix, address string) bool {
	u, err := url.Parse(prefix)
	return err == nil && strings.EqualFold(u.Host, address)
}
