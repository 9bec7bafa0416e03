package forward

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	engine "github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/resident"
)

// proxyName is the label that tells forward's upstreams from those of other plugins.
const proxyName = "forward"

// collectors are the metrics of all forward directives of the process. Those with the
// namespace coredns have the names and labels of CoreDNS, for dashboards' sake.
type collectors struct {
	allDown    prometheus.Counter
	rejects    prometheus.Counter
	took       *prometheus.HistogramVec
	probeFails *prometheus.CounterVec
	hits       *prometheus.CounterVec
	misses     *prometheus.CounterVec

	failures  *prometheus.CounterVec
	failovers *prometheus.CounterVec
	ignored   *prometheus.CounterVec
	retries   *prometheus.CounterVec
	chained   prometheus.Counter
	hedges    *prometheus.CounterVec
	shared    prometheus.Counter
	states    stateCollector

	known sync.Map               // engine.Endpoint to *series
	last  atomic.Pointer[series] // mostly the one that is asked for next, too
}

// series are the counters of one upstream that nearly every query counts in, so that
// their labels are looked up once.
type series struct {
	to    engine.Endpoint
	took  [16]atomic.Pointer[prometheus.Observer] // by RCODE
	conns [len(protocols)][2]atomic.Pointer[prometheus.Counter]
}

// protocols are what connections are counted by.
var protocols = [...]string{"udp", "tcp", "tcp-tls", "https", "quic"}

func (m *collectors) of(to engine.Endpoint) *series {
	if s := m.last.Load(); s != nil && s.to == to {
		return s
	}
	v, ok := m.known.Load(to)
	if !ok {
		v, _ = m.known.LoadOrStore(to, &series{to: to})
	}
	s := v.(*series)
	m.last.Store(s)
	return s
}

var metrics = newCollectors()

func newCollectors() *collectors {
	const ns = plugin.Namespace
	vec := func(ns, sub, name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
	}
	return &collectors{
		allDown: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: "forward", Name: "healthcheck_broken_total",
			Help: "Queries that found all upstreams unhealthy.",
		}),
		rejects: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: "forward", Name: "max_concurrent_rejects_total",
			Help: "Queries refused because too many were under way.",
		}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: "proxy", Name: "request_duration_seconds",
			Buckets: plugin.TimeBuckets, NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
			Help: "Time that an upstream took to answer.",
		}, []string{"proxy_name", "to", "rcode"}),
		chained: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "resolverd", Subsystem: "forward", Name: "chained_queries_total",
			Help: "Queries that a chain led on to the next plugin, which answered.",
		}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "resolverd", Subsystem: "forward", Name: "shared_queries_total",
			Help: "Queries that waited for an identical one under way.",
		}),
		probeFails: vec(ns, "proxy", "healthcheck_failures_total", "Probes that found an upstream not healthy.", "proxy_name", "to"),
		hits:       vec(ns, "proxy", "conn_cache_hits_total", "Queries that went over an open connection.", "proxy_name", "to", "proto"),
		misses:     vec(ns, "proxy", "conn_cache_misses_total", "Queries that needed a new connection.", "proxy_name", "to", "proto"),
		hedges:     vec("resolverd", "forward", "hedges_total", "Queries sent to a second upstream before the first answered.", "to", "won"),
		failures:   vec("resolverd", "forward", "failures_total", "Attempts without a reply, by cause.", "to", "cause"),
		failovers:  vec("resolverd", "forward", "failovers_total", "Queries that went on to another upstream.", "to"),
		ignored:    vec("resolverd", "forward", "ignored_replies_total", "Packets from an upstream's address that were no reply to the query.", "to"),
		retries:    vec("resolverd", "forward", "tcp_retries_total", "UDP replies that were truncated or doubtful and asked for again over TCP.", "to"),
	}
}

var registerOnce sync.Once

// registerMetrics registers the metrics once in the process: the registry outlives a
// reload.
func registerMetrics() { registerOnce.Do(func() { metrics.register(prometheus.DefaultRegisterer) }) }

func (m *collectors) register(r prometheus.Registerer) {
	m.allDown = register(r, m.allDown)
	m.rejects = register(r, m.rejects)
	m.took = register(r, m.took)
	m.probeFails = register(r, m.probeFails)
	m.hits = register(r, m.hits)
	m.misses = register(r, m.misses)
	m.failures = register(r, m.failures)
	m.failovers = register(r, m.failovers)
	m.ignored = register(r, m.ignored)
	m.retries = register(r, m.retries)
	m.chained = register(r, m.chained)
	m.hedges = register(r, m.hedges)
	m.shared = register(r, m.shared)
	m.states = register(r, m.states)
}

// register registers c, or returns what is registered under its name: CoreDNS's own
// proxy package, where something links it, has the coredns_proxy_ names.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	err := r.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		log.Warningf("metric not registered: %s", err)
	}
	return c
}

// Answered implements the engine's Observer, as the methods below do.
func (m *collectors) Answered(to engine.Endpoint, rcode int, took time.Duration) {
	if rcode < 0 || rcode > 15 {
		m.tookOf(to, rcode).Observe(took.Seconds())
		return
	}
	at := &m.of(to).took[rcode]
	o := at.Load()
	if o == nil {
		made := m.tookOf(to, rcode)
		o = &made
		at.Store(o)
	}
	(*o).Observe(took.Seconds())
}

func (m *collectors) tookOf(to engine.Endpoint, rcode int) prometheus.Observer {
	name, ok := dns.RcodeToString[rcode]
	if !ok {
		name = strconv.Itoa(rcode)
	}
	return m.took.WithLabelValues(proxyName, to.Label(), name)
}

func (m *collectors) Failed(to engine.Endpoint, timeout bool) {
	cause := "error"
	if timeout {
		cause = "timeout"
	}
	m.failures.WithLabelValues(to.Label(), cause).Inc()
}

func (m *collectors) ProbeFailed(to engine.Endpoint) {
	m.probeFails.WithLabelValues(proxyName, to.Label()).Inc()
}

func (m *collectors) Connection(to engine.Endpoint, proto string, reused bool) {
	vec, how := m.misses, 0
	if reused {
		vec, how = m.hits, 1
	}
	i := slices.Index(protocols[:], proto)
	if i < 0 {
		vec.WithLabelValues(proxyName, to.Label(), proto).Inc()
		return
	}
	at := &m.of(to).conns[i][how]
	c := at.Load()
	if c == nil {
		made := vec.WithLabelValues(proxyName, to.Label(), proto)
		c = &made
		at.Store(c)
	}
	(*c).Inc()
}

func (m *collectors) Ignored(to engine.Endpoint)  { m.ignored.WithLabelValues(to.Label()).Inc() }
func (m *collectors) Retried(to engine.Endpoint)  { m.retries.WithLabelValues(to.Label()).Inc() }
func (m *collectors) Failover(to engine.Endpoint) { m.failovers.WithLabelValues(to.Label()).Inc() }
func (m *collectors) AllDown()                    { m.allDown.Inc() }

// Hedged counts by whether the hedge gave the reply.
func (m *collectors) Hedged(to engine.Endpoint, won bool) {
	m.hedges.WithLabelValues(to.Label(), strconv.FormatBool(won)).Inc()
}
func (m *collectors) Shared() { m.shared.Inc() }

// stateCollector reads the upstreams' states from the pools when it is asked.
type stateCollector struct{}

var stateDesc = prometheus.NewDesc("resolverd_forward_upstream_up",
	"1 for an upstream that is believed healthy, 0 for one that is not.", []string{"to"}, nil)

// Describe implements prometheus.Collector.
func (stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- stateDesc }

// Collect implements prometheus.Collector. Of several pools with one upstream the worst
// opinion counts.
func (stateCollector) Collect(ch chan<- prometheus.Metric) {
	up := map[string]float64{}
	resident.Each("forward", func(_ string, p *engine.Pool) {
		for _, s := range p.Upstreams() {
			v := 0.0
			if s.State == engine.Up {
				v = 1
			}
			if old, seen := up[s.Endpoint.Label()]; !seen || v < old {
				up[s.Endpoint.Label()] = v
			}
		}
	})
	for to, v := range up {
		ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, v, to)
	}
}
