package forward

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// gathered runs some queries with metrics of their own and returns what they count.
func gathered(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	old := metrics
	t.Cleanup(func() { metrics = old })
	metrics = newCollectors()
	reg := prometheus.NewPedanticRegistry()
	metrics.register(reg)

	// A stanza of its own: a pool that other tests share observes into their metrics.
	tail := " {\npolicy sequential\nread_timeout 1999ms\nmax_concurrent 1\n}\n"
	cut := answering(t, func(r *dns.Msg) *dns.Msg {
		m := withA("192.0.2.1")(r)
		if r.Question[0].Name == "cut.example.org." {
			m.Truncated, m.Answer = true, nil
		}
		return m
	})
	h := chain(t, "forward . "+closedPort(t)+" "+cut+tail)
	serve(h, query("example.org.", dns.TypeA))
	serve(h, query("example.org.", dns.TypeA))
	serve(h, query("cut.example.org.", dns.TypeA))
	h.limit.Enter()
	serve(h, query("example.org.", dns.TypeA))
	h.limit.Leave()
	metrics.AllDown()
	metrics.Hedged(h.pool.Upstreams()[0].Endpoint, true)
	metrics.Ignored(h.pool.Upstreams()[0].Endpoint)
	metrics.ProbeFailed(h.pool.Upstreams()[0].Endpoint)

	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.MetricFamily{}
	for _, f := range all {
		out[f.GetName()] = f
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	return out
}

func TestMetrics(t *testing.T) {
	all := gathered(t)
	sum := func(name string) float64 {
		total := 0.0
		for _, m := range all[name].GetMetric() {
			total += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		return total
	}
	for name, want := range map[string]float64{
		"coredns_forward_healthcheck_broken_total":     1,
		"coredns_forward_max_concurrent_rejects_total": 1,
		"coredns_proxy_request_duration_seconds":       3,
		"resolverd_forward_failures_total":             1,
		"resolverd_forward_failovers_total":            1,
		"resolverd_forward_ignored_replies_total":      1,
		"resolverd_forward_tcp_retries_total":          1,
	} {
		if got := sum(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	// CoreDNS's dashboards select by these labels.
	labels := func(name string) string {
		var out []string
		for _, l := range all[name].GetMetric()[0].GetLabel() {
			out = append(out, l.GetName())
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for name, want := range map[string]string{
		"coredns_proxy_request_duration_seconds":   "proxy_name rcode to",
		"coredns_proxy_healthcheck_failures_total": "proxy_name to",
		"coredns_proxy_conn_cache_misses_total":    "proto proxy_name to",
		"resolverd_forward_upstream_up":            "to",
	} {
		if all[name] == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		if got := labels(name); got != want {
			t.Errorf("%s has labels %q, want %q", name, got, want)
		}
	}
}

// The README names every metric, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile(`\b(coredns|resolverd)_[a-z_]+`).FindAllString(string(text), -1) {
		documented[name] = true
	}
	all := gathered(t)
	for name := range all {
		if !documented[name] {
			t.Errorf("%s is not in README.md", name)
		}
	}
	for name := range documented {
		if all[name] == nil && name != "coredns_proxy_conn_cache_hits_total" {
			t.Errorf("README.md names %s, which there is not", name)
		}
	}
}

// Where something registered CoreDNS's names before us, its collectors are used.
func TestRegisterTakesWhatIsThere(t *testing.T) {
	reg := prometheus.NewRegistry()
	first, second := newCollectors(), newCollectors()
	first.register(reg)
	second.register(reg)
	second.rejects.Inc()
	if got := testutil.ToFloat64(first.rejects); got != 1 {
		t.Errorf("the registered counter says %v, want 1", got)
	}
}
