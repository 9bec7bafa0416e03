package cache

import (
	"strings"
	"sync"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/prometheus/client_golang/prometheus"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/cache/snapshot"
)

var log = clog.NewWithPlugin(pluginName)

// The stock plugin's metrics under the stock names: dashboards know them.
var (
	entries = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "entries",
		Help: "Stored responses by type.",
	}, []string{"server", "type", "zones", "view"})
	requests = counter("requests_total", "Queries that the cache covers.")
	hits     = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "hits_total",
		Help: "Queries answered from the cache by type, stale ones among them.",
	}, []string{"server", "type", "zones", "view"})
	misses      = counter("misses_total", "Queries that found nothing in the cache.")
	prefetches  = counter("prefetch_total", "Fetches in the background, of what is popular or stale.")
	drops       = counter("drops_total", "Responses to another question than was asked.")
	servedStale = counter("served_stale_total", "Queries answered with an expired response.")
	evictions   = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "evictions_total",
		Help: "Responses that made room for others by type.",
	}, []string{"server", "type", "zones", "view"})
)

func counter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help,
	}, []string{"server", "zones", "view"})
}

var collectors = []prometheus.Collector{entries, requests, hits, misses, prefetches, drops, servedStale, evictions, memory{}}

var registerOnce sync.Once

// registerMetrics puts the metrics into the registry that CoreDNS's prometheus plugin
// serves, once for all reloads.
func registerMetrics() {
	registerOnce.Do(func() {
		for _, c := range collectors {
			// It can only fail for one that is registered already.
			_ = prometheus.Register(c)
		}
	})
}

func joinZones(zones []string) string { return strings.Join(zones, ",") }

// class is the index of an entry's type: success or denial.
func class(k engine.Kind) int {
	if k.Denial() {
		return 1
	}
	return 0
}

// series are the metrics of one server, looked up once: finding them by their labels
// costs more than finding the entry.
type series struct {
	server                                           string
	requests, misses, prefetches, drops, servedStale prometheus.Counter
	hits, evictions                                  [2]prometheus.Counter
	entries                                          [2]prometheus.Gauge
}

// seriesOf returns the series of the server, of which there are as many as listeners.
func (h *Handler) seriesOf(server string) *series {
	if s := h.last.Load(); s != nil && s.server == server {
		return s
	}
	if v, ok := h.byServer.Load(server); ok {
		s := v.(*series)
		h.last.Store(s)
		return s
	}
	plain := []string{server, h.zoneLabel, h.viewLabel}
	s := &series{
		server:      server,
		requests:    requests.WithLabelValues(plain...),
		misses:      misses.WithLabelValues(plain...),
		prefetches:  prefetches.WithLabelValues(plain...),
		drops:       drops.WithLabelValues(plain...),
		servedStale: servedStale.WithLabelValues(plain...),
	}
	for i, kind := range [2]string{"success", "denial"} {
		s.hits[i] = hits.WithLabelValues(server, kind, h.zoneLabel, h.viewLabel)
		s.evictions[i] = evictions.WithLabelValues(server, kind, h.zoneLabel, h.viewLabel)
		s.entries[i] = entries.WithLabelValues(server, kind, h.zoneLabel, h.viewLabel)
	}
	h.byServer.Store(server, s)
	return s
}

// stored counts what storing a response did to the store.
func (s *series) stored(store *engine.Cache, done engine.Stored) {
	success, denial := store.Counts()
	s.entries[0].Set(float64(success))
	s.entries[1].Set(float64(denial))
	for i, n := range done.Evicted {
		s.evictions[i].Add(float64(n))
	}
}

// memory collects what the stock metrics lack from the caches that outlive reloads.
type memory struct{}

var (
	bytesDesc    = prometheus.NewDesc("resolverd_cache_bytes", "Memory that stored responses take, by zones of the directive.", []string{"zones"}, nil)
	budgetDesc   = prometheus.NewDesc("resolverd_cache_budget_bytes", "Memory that stored responses may take.", []string{"zones"}, nil)
	sharedDesc   = prometheus.NewDesc("resolverd_cache_shared_fetches_total", "Queries answered by the fetch of another one.", []string{"zones"}, nil)
	flyingDesc   = prometheus.NewDesc("resolverd_cache_fetches_in_flight", "Fetches under way.", []string{"zones"}, nil)
	entriesDesc  = prometheus.NewDesc("resolverd_cache_snapshot_entries", "Stored responses that were written to disk last, or read from there.", []string{"zones"}, nil)
	writtenDesc  = prometheus.NewDesc("resolverd_cache_snapshot_timestamp_seconds", "When stored responses were written to disk last; 0 for not yet.", []string{"zones"}, nil)
	failuresDesc = prometheus.NewDesc("resolverd_cache_snapshot_failures_total", "Snapshots of stored responses that could not be read or written whole.", []string{"zones"}, nil)

	refusedDesc = prometheus.NewDesc("resolverd_cache_refused_responses_total", "Responses that could not be stored for their size or shape.", []string{"zones"}, nil)
)

func (memory) Describe(ch chan<- *prometheus.Desc) {
	ch <- bytesDesc
	ch <- budgetDesc
	ch <- sharedDesc
	ch <- flyingDesc
	ch <- refusedDesc
	ch <- entriesDesc
	ch <- writtenDesc
	ch <- failuresDesc
}

// Collect sums the caches of the same zones: two horizons of a zone are one series.
func (memory) Collect(ch chan<- prometheus.Metric) {
	sum := map[string]engine.Stats{}
	disk := map[string]snapshot.Status{}
	Each(func(c *Store) {
		st, t := c.Stats(), sum[c.Name()]
		t.Bytes += st.Bytes
		t.Budget += st.Budget
		t.Shared += st.Shared
		t.Flying += st.Flying
		t.Refused += st.Refused
		sum[c.Name()] = t
		if s, ok := c.Snapshot(); ok {
			d := disk[c.Name()]
			d.Entries += max(s.Entries, s.Loaded)
			d.Failures += s.Failures
			if d.Written.Before(s.Written) {
				d.Written = s.Written
			}
			disk[c.Name()] = d
		}
	})
	for zones, st := range sum {
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(st.Bytes), zones)
		ch <- prometheus.MustNewConstMetric(budgetDesc, prometheus.GaugeValue, float64(st.Budget), zones)
		ch <- prometheus.MustNewConstMetric(sharedDesc, prometheus.CounterValue, float64(st.Shared), zones)
		ch <- prometheus.MustNewConstMetric(flyingDesc, prometheus.GaugeValue, float64(st.Flying), zones)
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(st.Refused), zones)
	}
	for zones, d := range disk {
		at := 0.0
		if !d.Written.IsZero() {
			at = float64(d.Written.Unix())
		}
		ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(d.Entries), zones)
		ch <- prometheus.MustNewConstMetric(writtenDesc, prometheus.GaugeValue, at, zones)
		ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(d.Failures), zones)
	}
}
