package specialuse

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

var queries = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "resolverd_specialuse_queries_total",
	Help: "Queries for special-use names answered locally, by zone and result.",
}, []string{"zone", "result"})

// register registers the metrics once a process; they outlive a Corefile reload.
var register = sync.OnceFunc(func() {
	var already prometheus.AlreadyRegisteredError
	if err := prometheus.Register(queries); err != nil && !errors.As(err, &already) {
		panic("specialuse: metrics: " + err.Error())
	}
})
