package fastpath

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/resolverd/resolverd/internal/bulk"
	engine "github.com/resolverd/resolverd/internal/fastpath"
)

var (
	queriesDesc = prometheus.NewDesc("resolverd_fastpath_queries_total", "UDP queries that the fast path took in, by what became of them: hit (repeated, or answered from the packet in the cache), relayed (asked of an upstream without the plugins), miss (answered by the plugins), dropped (too many waited for the plugins).", []string{"server", "result"}, nil)
	onDesc      = prometheus.NewDesc("resolverd_fastpath_on", "Whether a plain DNS listener has the fast path: 1 or 0.", []string{"server"}, nil)
	entriesDesc = prometheus.NewDesc("resolverd_fastpath_entries", "Responses that were learnt and are held.", nil, nil)
	bytesDesc   = prometheus.NewDesc("resolverd_fastpath_bytes", "Memory that learnt responses take.", nil, nil)
	learntDesc  = prometheus.NewDesc("resolverd_fastpath_learnt_total", "Responses learnt since the Corefile was loaded.", nil, nil)
	lostDesc    = prometheus.NewDesc("resolverd_fastpath_log_dropped_total", "Repeated responses that log and dnstap were not told of, because they came faster than those took them.", nil, nil)
	evictedDesc = prometheus.NewDesc("resolverd_fastpath_evictions_total", "Good responses that made room for others since the Corefile was loaded.", nil, nil)
)

// registerMetrics registers once a process: a reload builds the plugin anew.
var registerMetrics = sync.OnceFunc(func() {
	_ = prometheus.Register(collector{}) // it can only fail for one that is registered already
	for _, v := range []*bulk.Vec{durations, requestSizes, responseSizes} {
		_ = v.Replace(prometheus.DefaultRegisterer) // likewise
	}
})

// totals are the counts of generations that ended.
var totals = struct {
	mu    sync.Mutex
	ended map[string][4]uint64
}{ended: map[string][4]uint64{}}

type collector struct{}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queriesDesc, onDesc, entriesDesc, bytesDesc, learntDesc, evictedDesc, lostDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (collector) Collect(ch chan<- prometheus.Metric) {
	f := current.Load()
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	totals.mu.Lock()
	defer totals.mu.Unlock()
	for _, l := range f.listeners {
		if !l.plain() {
			continue
		}
		on := 0.0
		if l.gen != nil {
			on = 1
			c, was := l.gen.Counts(), totals.ended[l.name]
			for i, n := range [4]uint64{c.Hits, c.Misses, c.Relayed, c.Dropped} {
				ch <- prometheus.MustNewConstMetric(queriesDesc, prometheus.CounterValue, float64(n+was[i]), l.name, [4]string{"hit", "miss", "relayed", "dropped"}[i])
			}
		}
		ch <- prometheus.MustNewConstMetric(onDesc, prometheus.GaugeValue, on, l.name)
	}
	ch <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(f.engine.Lost()))
	s := f.table.Stats()
	ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(s.Entries))
	ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(s.Bytes))
	ch <- prometheus.MustNewConstMetric(learntDesc, prometheus.CounterValue, float64(s.Learnt))
	ch <- prometheus.MustNewConstMetric(evictedDesc, prometheus.CounterValue, float64(s.Evicted))
}

// ended keeps a generation's counts for the series that go on.
func ended(server string, c engine.Counts) {
	totals.mu.Lock()
	defer totals.mu.Unlock()
	was := totals.ended[server]
	totals.ended[server] = [4]uint64{was[0] + c.Hits, was[1] + c.Misses, was[2] + c.Relayed, was[3] + c.Dropped}
}
