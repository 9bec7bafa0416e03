package check

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resolverd/resolverd/registry"
)

// meter counts what the runner does.
type meter struct {
	checks, running, waiting atomic.Int64

	runs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	reports *prometheus.CounterVec
	reaps   *prometheus.CounterVec
	all     []prometheus.Collector
}

func newMeter() *meter {
	m := &meter{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "resolverd_check_runs_total",
			Help: "Check runs by kind and by what they found.",
		}, []string{"kind", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "resolverd_check_run_duration_seconds",
			Help:    "Time that a check run took, by kind.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"kind"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "resolverd_check_reports_total",
			Help: "Check statuses written to the registry, by result: ok or error.",
		}, []string{"result"}),
		reaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "resolverd_check_reaps_total",
			Help: "Deregistrations for deregister_critical_after, by result: ok or error.",
		}, []string{"result"}),
	}
	gauge := func(name, help string, v *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(v.Load()) })
	}
	m.all = []prometheus.Collector{
		m.runs, m.seconds, m.reports, m.reaps,
		gauge("resolverd_check_checks", "Checks of this node that are run here.", &m.checks),
		gauge("resolverd_check_running", "Check runs under way.", &m.running),
		gauge("resolverd_check_waiting", "Check runs that are due and wait for a place.", &m.waiting),
	}
	for _, result := range []string{"ok", "error"} {
		m.reports.WithLabelValues(result)
		m.reaps.WithLabelValues(result)
	}
	return m
}

func (m *meter) ran(k registry.CheckKind, s registry.Status, took time.Duration) {
	m.runs.WithLabelValues(string(k), string(s)).Inc()
	if k != registry.CheckAlias {
		m.seconds.WithLabelValues(string(k)).Observe(took.Seconds())
	}
}

func (m *meter) reported(err error) { m.reports.WithLabelValues(outcome(err)).Inc() }
func (m *meter) reaped(err error)   { m.reaps.WithLabelValues(outcome(err)).Inc() }

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// Describe implements prometheus.Collector.
func (r *Runner) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range r.meter.all {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector. Safe at any time.
func (r *Runner) Collect(ch chan<- prometheus.Metric) {
	for _, c := range r.meter.all {
		c.Collect(ch)
	}
}
