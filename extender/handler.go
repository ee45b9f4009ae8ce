package extender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// Verbs that the scheduler's configuration names.
const (
	FilterVerb     = "filter"
	PrioritizeVerb = "prioritize"
)

// DefaultMaxBody is room for the names of 100,000 nodes, or for some 700 whole ones.
const DefaultMaxBody = 8 << 20

// Handler speaks k8s.io/kube-scheduler/extender/v1, in both nodeCacheCapable forms.
type Handler struct {
	placer  *Placer
	metrics *metrics
	maxBody int64
	mux     *http.ServeMux
}

func newHandler(p *Placer, m *metrics, maxBody int64) *Handler {
	if maxBody <= 0 {
		maxBody = DefaultMaxBody
	}
	h := &Handler{placer: p, metrics: m, maxBody: maxBody, mux: http.NewServeMux()}
	h.mux.HandleFunc("POST /"+FilterVerb, h.filter)
	h.mux.HandleFunc("POST /"+PrioritizeVerb, h.prioritize)
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	h.mux.HandleFunc("GET /readyz", h.ready)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.placer.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func (h *Handler) filter(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	args, names, ok := h.question(w, r, FilterVerb)
	if !ok {
		return
	}
	a := h.placer.Filter(r.Context(), args.Pod, names)
	h.log(r.Context(), args.Pod, names, a)
	h.send(w, encodeFilter(args, &a))
	h.metrics.filtered(&a, len(names))
	h.metrics.answered(FilterVerb, a.Outcome.String(), time.Since(start))
}

func (h *Handler) prioritize(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	args, names, ok := h.question(w, r, PrioritizeVerb)
	if !ok {
		return
	}
	list := make(extenderv1.HostPriorityList, len(names))
	for i, score := range h.placer.Prioritize(args.Pod, names) {
		list[i] = extenderv1.HostPriority{Host: names[i], Score: score}
	}
	h.reply(w, list)
	h.metrics.answered(PrioritizeVerb, "scored", time.Since(start))
}

// question reads what is asked, or says what is wrong with it.
func (h *Handler) question(w http.ResponseWriter, r *http.Request, verb string) (*extenderv1.ExtenderArgs, []string, bool) {
	args, status, err := h.decode(w, r)
	if err != nil {
		h.metrics.answered(verb, "bad", 0)
		http.Error(w, err.Error(), status)
		return nil, nil, false
	}
	return args, nodeNames(args), true
}

func (h *Handler) decode(w http.ResponseWriter, r *http.Request) (*extenderv1.ExtenderArgs, int, error) {
	args := &extenderv1.ExtenderArgs{}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, h.maxBody))
	err := d.Decode(args)
	if err == nil && d.More() {
		err = errors.New("there is more than one document")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf(
			"the question is larger than %d bytes: set nodeCacheCapable: true in the scheduler's extenders entry, so that it sends names", h.maxBody)
	case err != nil:
		return nil, http.StatusBadRequest, fmt.Errorf("read ExtenderArgs: %w", err)
	case args.Pod == nil:
		return nil, http.StatusBadRequest, errors.New("ExtenderArgs name no Pod")
	case args.NodeNames == nil && args.Nodes == nil:
		return nil, http.StatusBadRequest, errors.New("ExtenderArgs have neither NodeNames nor Nodes")
	}
	return args, 0, nil
}

func nodeNames(args *extenderv1.ExtenderArgs) []string {
	if args.NodeNames != nil {
		return *args.NodeNames
	}
	names := make([]string, len(args.Nodes.Items))
	for i := range args.Nodes.Items {
		names[i] = args.Nodes.Items[i].Name
	}
	return names
}

func (h *Handler) log(ctx context.Context, pod *corev1.Pod, given []string, a Answer) {
	klog.FromContext(ctx).V(2).Info("Judged placement", "pod", klog.KObj(pod), "outcome", a.Outcome.String(),
		"given", len(given), "admitted", len(a.Nodes), "place", a.Place, "message", a.Message)
}

func (h *Handler) reply(w http.ResponseWriter, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.send(w, body)
}

func (h *Handler) send(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // whoever hung up needs no answer
}
