package audit

import (
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hook is what validating and mutating webhooks have in common.
type hook struct {
	name              string
	failurePolicy     *admissionv1.FailurePolicyType
	objectSelector    *metav1.LabelSelector
	namespaceSelector *metav1.LabelSelector
	rules             []admissionv1.RuleWithOperations
	conditions        []admissionv1.MatchCondition
	matchPolicy       *admissionv1.MatchPolicyType
	timeoutSeconds    *int32
	authority         []byte
}

func validatingHooks(c *admissionv1.ValidatingWebhookConfiguration) map[string]hook {
	hooks := map[string]hook{}
	for _, w := range c.Webhooks {
		hooks[w.Name] = hook{
			w.Name, w.FailurePolicy, w.ObjectSelector, w.NamespaceSelector, w.Rules, w.MatchConditions, w.MatchPolicy,
			w.TimeoutSeconds, w.ClientConfig.CABundle,
		}
	}
	return hooks
}

func mutatingHooks(c *admissionv1.MutatingWebhookConfiguration) map[string]hook {
	hooks := map[string]hook{}
	for _, w := range c.Webhooks {
		hooks[w.Name] = hook{
			w.Name, w.FailurePolicy, w.ObjectSelector, w.NamespaceSelector, w.Rules, w.MatchConditions, w.MatchPolicy,
			w.TimeoutSeconds, w.ClientConfig.CABundle,
		}
	}
	return hooks
}

// Validating compares the configuration in the cluster with the one it should be.
// live is nil where there is none. deadline is that of a decision.
func Validating(live, want *admissionv1.ValidatingWebhookConfiguration, deadline time.Duration) []Problem {
	object := "ValidatingWebhookConfiguration/" + want.Name
	if live == nil {
		return []Problem{problem(Missing, object, "is not there, so that nothing is guarded: apply deploy/base")}
	}
	return compare(object, validatingHooks(live), validatingHooks(want), deadline)
}

// Mutating is Validating for the step that binds an eviction to its pod.
func Mutating(live, want *admissionv1.MutatingWebhookConfiguration) []Problem {
	object := "MutatingWebhookConfiguration/" + want.Name
	if live == nil {
		return []Problem{problem(Missing, object, "is not there, so that grants are kept longer than they must: apply deploy/base")}
	}
	return compare(object, mutatingHooks(live), mutatingHooks(want), 0)
}

func compare(object string, live, want map[string]hook, deadline time.Duration) []Problem {
	var problems []Problem
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		have, ok := live[name]
		if !ok {
			problems = append(problems, problem(Missing, object, "webhook %s is not there, so that its requests pass unjudged: apply deploy/base", name))
			continue
		}
		problems = append(problems, have.against(want[name], object, deadline)...)
	}
	return problems
}

// against is everything in which the webhook is weaker than it should be, or blocks
// whom it should not.
func (h hook) against(want hook, object string, deadline time.Duration) []Problem {
	var problems []Problem
	found := func(check Check, format string, args ...any) {
		problems = append(problems, problem(check, object, "webhook "+h.name+": "+format, args...))
	}
	if fails(want.failurePolicy) && !fails(h.failurePolicy) {
		found(FailurePolicy, "failurePolicy is Ignore, so that every request passes unjudged while no replica answers: set it to Fail")
	}
	if !empty(h.objectSelector) {
		found(ObjectSelector, "has an objectSelector; it is matched against the Eviction, which bears none of the pod's labels, so that evictions pass unjudged: remove it")
	}
	if !equality.Semantic.DeepEqual(h.namespaceSelector, want.namespaceSelector) {
		found(NamespaceSelector, "namespaceSelector is %s, not %s: namespaces that you think are guarded may not be, or ours may be", text(h.namespaceSelector), text(want.namespaceSelector))
	}
	for _, missing := range uncovered(h.rules, want.rules) {
		found(Rules, "no rule covers %s, so that it passes unjudged: apply deploy/base", missing)
	}
	problems = append(problems, h.conditionsAgainst(want, object)...)
	if h.matchPolicy != nil && *h.matchPolicy == admissionv1.Exact {
		found(MatchPolicy, "matchPolicy is Exact, so that requests in another API version pass unjudged: set it to Equivalent")
	}
	if h.timeoutSeconds != nil && deadline > 0 && fails(want.failurePolicy) && time.Duration(*h.timeoutSeconds)*time.Second <= deadline {
		found(Timeout, "timeoutSeconds is %d, not above the deadline of a decision (%v), so that a slow decision becomes a 500: raise it, or lower webhook.deadline", *h.timeoutSeconds, deadline)
	}
	if len(h.authority) == 0 {
		found(Authority, "clientConfig.caBundle is empty, so that the API server trusts nobody and calls nobody: it is filled by us, by cert-manager, or by you")
	}
	return problems
}

func (h hook) conditionsAgainst(want hook, object string) []Problem {
	var problems []Problem
	have := map[string]string{}
	for _, c := range h.conditions {
		have[squash(c.Expression)] = c.Name
	}
	for _, c := range want.conditions {
		if _, ok := have[squash(c.Expression)]; !ok {
			problems = append(problems, problem(MatchConditions, object,
				"webhook %s: the match condition %s is not there as it was shipped, so that somebody may be blocked who must not be: apply deploy/base", h.name, c.Name))
		}
		delete(have, squash(c.Expression))
	}
	var extra []string
	for _, name := range have {
		extra = append(extra, name)
	}
	slices.Sort(extra)
	if len(extra) > 0 {
		problems = append(problems, problem(MatchConditions, object,
			"webhook %s: requests that do not meet %s pass unjudged: remove the condition if that is not meant", h.name, strings.Join(extra, ", ")))
	}
	return problems
}

// uncovered are the wanted operations on resources that no rule covers.
func uncovered(have, want []admissionv1.RuleWithOperations) []string {
	var missing []string
	for _, w := range want {
		for _, group := range w.APIGroups {
			for _, resource := range w.Resources {
				for _, op := range w.Operations {
					if !slices.ContainsFunc(have, func(h admissionv1.RuleWithOperations) bool { return covers(h, group, resource, op) }) {
						missing = append(missing, string(op)+" "+strings.TrimPrefix(group+"/"+resource, "/"))
					}
				}
			}
		}
	}
	return missing
}

func covers(r admissionv1.RuleWithOperations, group, resource string, op admissionv1.OperationType) bool {
	base, _, sub := strings.Cut(resource, "/")
	return anyOf(r.APIGroups, group) && anyOf(r.APIVersions, "v1") &&
		(slices.Contains(r.Operations, op) || slices.Contains(r.Operations, admissionv1.OperationAll)) &&
		(slices.Contains(r.Resources, resource) || slices.Contains(r.Resources, "*/*") || slices.Contains(r.Resources, base+"/*") ||
			!sub && slices.Contains(r.Resources, "*"))
}

func anyOf(list []string, one string) bool {
	return slices.Contains(list, one) || slices.Contains(list, "*")
}

func fails(p *admissionv1.FailurePolicyType) bool { return p == nil || *p == admissionv1.Fail }

func empty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

func text(s *metav1.LabelSelector) string {
	if empty(s) {
		return "empty"
	}
	return metav1.FormatLabelSelector(s)
}

// squash makes expressions that differ in white space equal.
func squash(s string) string { return strings.Join(strings.Fields(s), " ") }
