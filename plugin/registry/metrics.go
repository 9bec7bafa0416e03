package registry

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
)

// The values of the label result, beside those of names.Status.
const (
	resultNotReady = "not_ready"
	resultRefused  = "refused"
	resultFailed   = "external_failed"
	resultLastGood = "last_good"
)

// maxServices bounds the values of the label service; what comes later counts as
// "other".
const maxServices = 5000

var queries = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "resolverd_registry_queries_total",
	Help: "Queries answered from the registry, by zone, service (empty for other names) and result.",
}, []string{"zone", "service", "result"})

// metrics is what all registry directives of the process share: counters that outlive a
// Corefile reload, and the view that the gauges read.
var metrics = struct {
	once     sync.Once
	view     atomic.Pointer[registry.View]
	counters sync.Map   // series -> prometheus.Counter
	mu       sync.Mutex // guards services
	services map[string]bool
}{services: map[string]bool{}}

type series struct{ zone, service, result string }

// count counts one answer. service must be one that is registered, or "".
func count(zone, service, result string) {
	k := series{zone, registry.Fold(service), result}
	if c, ok := metrics.counters.Load(k); ok {
		c.(prometheus.Counter).Inc()
		return
	}
	metrics.mu.Lock()
	switch {
	case k.service == "" || metrics.services[k.service]:
	case len(metrics.services) < maxServices:
		metrics.services[k.service] = true
	default:
		k.service = "other"
	}
	metrics.mu.Unlock()
	c, _ := metrics.counters.LoadOrStore(k, queries.WithLabelValues(k.zone, k.service, k.result))
	c.(prometheus.Counter).Inc()
}

func resultOf(a names.Answer, failed bool) string {
	switch {
	case failed:
		return resultFailed
	case a.LastGood:
		return resultLastGood
	}
	return a.Status.String()
}

// observe registers the metrics once a process and points the gauges at the view.
func observe(v *registry.View) {
	metrics.view.Store(v)
	metrics.once.Do(func() {
		for _, c := range []prometheus.Collector{queries, viewCollector{now: time.Now}} {
			var already prometheus.AlreadyRegisteredError
			if err := prometheus.Register(c); err != nil && !errors.As(err, &already) {
				panic("registry: metrics: " + err.Error())
			}
		}
	})
}

var (
	viewLoaded    = prometheus.NewDesc("resolverd_registry_view_loaded", "Whether the view was filled once: 1 or 0.", nil, nil)
	viewAge       = prometheus.NewDesc("resolverd_registry_view_age_seconds", "Time since the store was last heard of; absent where it never was.", nil, nil)
	viewRevision  = prometheus.NewDesc("resolverd_registry_view_revision", "Store revision that the view shows.", nil, nil)
	viewServices  = prometheus.NewDesc("resolverd_registry_services", "Services in the view.", nil, nil)
	viewNodes     = prometheus.NewDesc("resolverd_registry_nodes", "Nodes in the view.", nil, nil)
	viewAddresses = prometheus.NewDesc("resolverd_registry_addresses", "Addresses in the view.", nil, nil)
)

// viewCollector reads the gauges off the view when they are asked for.
type viewCollector struct{ now func() time.Time }

// Describe implements prometheus.Collector.
func (viewCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{viewLoaded, viewAge, viewRevision, viewServices, viewNodes, viewAddresses} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c viewCollector) Collect(ch chan<- prometheus.Metric) {
	v := metrics.view.Load()
	if v == nil {
		return
	}
	gauge := func(d *prometheus.Desc, x float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x)
	}
	loaded := 0.0
	if v.Loaded() {
		loaded = 1
	}
	gauge(viewLoaded, loaded)
	if age, ever := v.Age(c.now()); ever {
		gauge(viewAge, age.Seconds())
	}
	s := v.Load()
	services, nodes, addrs := s.Counts()
	gauge(viewRevision, float64(s.Revision))
	gauge(viewServices, float64(services))
	gauge(viewNodes, float64(nodes))
	gauge(viewAddresses, float64(addrs))
}
