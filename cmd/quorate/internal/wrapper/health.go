package wrapper

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var errStopping = errors.New("the command is being stopped")

// Handler answers /healthz: whether the store answers; /readyz: whether the command
// runs, or stands by for its turn; and /metrics.
func (w *Wrapper) Handler(metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { answer(rw, w.Candidacy.Check(), "ok") })
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		switch err := w.Candidacy.Check(); {
		case w.state.Load() == leading:
			answer(rw, nil, "leading")
		case w.state.Load() == stopping:
			answer(rw, errStopping, "")
		default:
			answer(rw, err, "standing by")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

// Register the wrapper's own metrics.
func (w *Wrapper) Register(reg prometheus.Registerer) error {
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "quorate", Subsystem: "elect", Name: "command_running", Help: "Whether this process leads and its command runs.",
	}, func() float64 {
		if w.state.Load() == leading {
			return 1
		}
		return 0
	}))
}

func answer(w http.ResponseWriter, err error, ok string) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, ok)
}
