package rrl

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/resolverd/resolverd/internal/ratelimit"
)

// TestMetrics: the metric is in the README with its labels' values, and well formed.
func TestMetrics(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(collector{}); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || !strings.Contains(string(readme), "`"+families[0].GetName()+"{class, result}`") {
		t.Errorf("%v is not in the README", families)
	}
	if n := len(families[0].GetMetric()); n != int(ratelimit.Classes)*int(ratelimit.Results) {
		t.Errorf("%d series", n)
	}
	for _, m := range families[0].GetMetric() {
		for _, l := range m.GetLabel() {
			if !strings.Contains(string(readme), "`"+l.GetValue()+"`") {
				t.Errorf("%s %s is not in the README", l.GetName(), l.GetValue())
			}
		}
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
