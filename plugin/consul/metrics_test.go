package consul

import (
	"net/netip"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/resolverd/resolverd/forward"
)

// Every metric is in the README and the other way round, and has a proper name.
func TestMetricsAreDocumented(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.queries, metrics.took, metrics.probeFails, upCollector{})
	at := agent(t, web)
	ask(t, chain(t, "consul {\nto "+at+"\n}"), query("web.service.consul."))
	e := forward.Endpoint{Addr: netip.MustParseAddrPort(at)}
	metrics.Answered(e, 0, time.Millisecond)
	metrics.ProbeFailed(e)

	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bresolverd_consul_[a-z_]+`).FindAllString(string(text), -1) {
		documented[name] = true
	}
	for _, f := range all {
		if !documented[f.GetName()] {
			t.Errorf("%s is not in README.md", f.GetName())
		}
		delete(documented, f.GetName())
	}
	for name := range documented {
		t.Errorf("README.md names %s, which there is not", name)
	}
}
