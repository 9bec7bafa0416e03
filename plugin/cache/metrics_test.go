package cache

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/resident"
)

func TestMetrics(t *testing.T) {
	opt := defaults()
	opt.zones = []string{"metrics.test."}
	opt.stale.upTo = time.Hour
	h, s := handler(t, opt)
	defer h.close()
	s.set(says(dns.RcodeSuccess, "a.metrics.test. 60 IN A 192.0.2.1"))
	serve(t, h, ask("a.metrics.test.", dns.TypeA))
	serve(t, h, ask("a.metrics.test.", dns.TypeA))
	s.set(servfail)
	serve(t, h, ask("b.metrics.test.", dns.TypeA))
	serve(t, h, ask("b.metrics.test.", dns.TypeA))
	serve(t, h, ask("elsewhere.test.", dns.TypeA))

	plain, typed := []string{"", "metrics.test.", ""}, func(k string) []string { return []string{"", k, "metrics.test.", ""} }
	for _, tc := range []struct {
		name string
		c    prometheus.Collector
		want float64
	}{
		{"requests", requests.WithLabelValues(plain...), 4},
		{"misses", misses.WithLabelValues(plain...), 2},
		{"success hits", hits.WithLabelValues(typed("success")...), 1},
		{"denial hits", hits.WithLabelValues(typed("denial")...), 1},
		{"success entries", entries.WithLabelValues(typed("success")...), 1},
		{"denial entries", entries.WithLabelValues(typed("denial")...), 1},
	} {
		if got := testutil.ToFloat64(tc.c); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestMemoryMetrics(t *testing.T) {
	t.Cleanup(func() { resident.Shutdown() })
	// Two horizons of one zone are one series.
	for _, key := range []string{"one", "two"} {
		opt := defaults()
		opt.size.Bytes = 2 << 20
		c, err := resident.Get(kind, key, func() (*Store, error) { return newStore("example.org.", "", opt) })
		if err != nil {
			t.Fatal(err)
		}
		c.Shared()
	}
	want := `
# HELP resolverd_cache_budget_bytes Memory that stored responses may take.
# TYPE resolverd_cache_budget_bytes gauge
resolverd_cache_budget_bytes{zones="example.org."} 4.194304e+06
# HELP resolverd_cache_shared_fetches_total Queries answered by the fetch of another one.
# TYPE resolverd_cache_shared_fetches_total counter
resolverd_cache_shared_fetches_total{zones="example.org."} 2
`
	if err := testutil.CollectAndCompare(memory{}, strings.NewReader(want), "resolverd_cache_budget_bytes", "resolverd_cache_shared_fetches_total"); err != nil {
		t.Error(err)
	}
}

// Every metric is in the README, and well formed.
func TestMetricsAreDocumented(t *testing.T) {
	t.Cleanup(func() { resident.Shutdown() })
	if _, err := resident.Get(kind, "one", func() (*engine.Cache, error) { return engine.New("x.", engine.Size{}) }); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			t.Error(err)
		}
		ch := make(chan *prometheus.Desc, 16)
		c.Describe(ch)
		close(ch)
		for d := range ch {
			_, rest, _ := strings.Cut(d.String(), `fqName: "`)
			name, _, _ := strings.Cut(rest, `"`)
			if name == "" || !strings.Contains(string(readme), "`"+name+"{") {
				t.Errorf("%q is not in the README", name)
			}
		}
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	registerMetrics()
	registerMetrics()
}
