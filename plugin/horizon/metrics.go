package horizon

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// refused counts the queries of clients for whom a zone has no block.
var refused = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "resolverd_horizon_refused_total",
	Help: "Queries refused because no horizon of the zone is for the client.",
}, []string{"zone"})

// registerMetrics registers once a process: a reload builds the plugin anew.
var registerMetrics = sync.OnceFunc(func() { prometheus.MustRegister(refused) })
