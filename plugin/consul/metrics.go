package consul

import (
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/resident"
)

// collectors are the metrics of all consul directives of the process. They observe the
// pool too.
type collectors struct {
	forward.Silent
	queries    *prometheus.CounterVec
	took       *prometheus.HistogramVec
	probeFails *prometheus.CounterVec
}

var metrics = &collectors{
	queries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "resolverd", Subsystem: "consul", Name: "queries_total",
		Help: "Queries for Consul's names, by result: answered, failed, rejected.",
	}, []string{"result"}),
	took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "resolverd", Subsystem: "consul", Name: "request_duration_seconds",
		Buckets: plugin.TimeBuckets, NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help: "Time that Consul took to answer.",
	}, []string{"to"}),
	probeFails: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "resolverd", Subsystem: "consul", Name: "probe_failures_total",
		Help: "Probes that found an agent not healthy.",
	}, []string{"to"}),
}

var registerOnce sync.Once

func registerMetrics() {
	registerOnce.Do(func() {
		prometheus.MustRegister(metrics.queries, metrics.took, metrics.probeFails, upCollector{})
	})
}

func (m *collectors) result(r string) { m.queries.WithLabelValues(r).Inc() }

// Answered implements forward.Observer.
func (m *collectors) Answered(to forward.Endpoint, _ int, took time.Duration) {
	m.took.WithLabelValues(to.Label()).Observe(took.Seconds())
}

// ProbeFailed implements forward.Observer.
func (m *collectors) ProbeFailed(to forward.Endpoint) { m.probeFails.WithLabelValues(to.Label()).Inc() }

// upCollector reads the agents' states from the pools when it is asked.
type upCollector struct{}

var upDesc = prometheus.NewDesc("resolverd_consul_agent_up",
	"1 for an agent that is believed to answer, 0 for one that does not.", []string{"to"}, nil)

// Describe implements prometheus.Collector.
func (upCollector) Describe(ch chan<- *prometheus.Desc) { ch <- upDesc }

// Collect implements prometheus.Collector. Of several pools with one agent the worst
// opinion counts.
func (upCollector) Collect(ch chan<- prometheus.Metric) {
	up := map[string]float64{}
	resident.Each("consul", func(_ string, p *forward.Pool) {
		for _, s := range p.Upstreams() {
			v := 0.0
			if s.State == forward.Up {
				v = 1
			}
			if old, seen := up[s.Endpoint.Label()]; !seen || v < old {
				up[s.Endpoint.Label()] = v
			}
		}
	})
	for to, v := range up {
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, v, to)
	}
}
