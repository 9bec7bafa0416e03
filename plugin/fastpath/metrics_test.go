package fastpath

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Every metric is in the README.
func TestMetricsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 16)
	collector{}.Describe(ch)
	close(ch)
	n := 0
	for d := range ch {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if name == "" || !strings.Contains(string(readme), "`"+name) {
			t.Errorf("%q is not in the README", name)
		}
		n++
	}
	if n < 7 {
		t.Errorf("%d metrics", n)
	}
}
