package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	handler  http.Handler
}

func newMetrics(reg *prometheus.Registry, s *server) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "resolverd_api_requests_total",
			Help: "HTTP requests by endpoint and status code.",
		}, []string{"endpoint", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "resolverd_api_request_duration_seconds",
			Help:    "Time from request to reply, the waiting of blocking queries included.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 600},
		}, []string{"endpoint"}),
		handler: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	reg.MustRegister(m.requests, m.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "resolverd_api_blocking_queries",
			Help: "Blocking queries that wait now.",
		}, func() float64 { return float64(len(s.blocking)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "resolverd_view_revision",
			Help: "Revision of the store that the agent's view shows.",
		}, func() float64 { return float64(s.View.Load().Revision) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "resolverd_view_age_seconds",
			Help: "Time since the store was last heard of; -1 before it was.",
		}, func() float64 {
			age, ok := s.View.Age(s.Now())
			if !ok {
				return -1
			}
			return age.Seconds()
		}),
	)
	return m
}

func (m *metrics) seen(endpoint string, code int, d time.Duration) {
	m.requests.WithLabelValues(endpoint, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(endpoint).Observe(d.Seconds())
}

func (m *metrics) serve(c *call) error {
	c.code = http.StatusOK
	m.handler.ServeHTTP(c.w, c.Request)
	return nil
}
