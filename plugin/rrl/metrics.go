package rrl

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/resolverd/resolverd/internal/ratelimit"
)

// counts are of all limiters of the process: they go on over a reload.
var counts ratelimit.Counts

var responsesDesc = prometheus.NewDesc("resolverd_rrl_responses_total",
	"Responses over UDP in blocks with rrl, by their class and by what became of them.", []string{"class", "result"}, nil)

// registerMetrics registers once a process: a reload builds the plugin anew.
var registerMetrics = sync.OnceFunc(func() {
	_ = prometheus.Register(collector{}) // it can only fail for one that is registered already
})

type collector struct{}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) { ch <- responsesDesc }

// Collect implements prometheus.Collector.
func (collector) Collect(ch chan<- prometheus.Metric) {
	for class := range ratelimit.Classes {
		for result := range ratelimit.Results {
			ch <- prometheus.MustNewConstMetric(responsesDesc, prometheus.CounterValue, float64(counts.Of(class, result)), class.String(), result.String())
		}
	}
}
