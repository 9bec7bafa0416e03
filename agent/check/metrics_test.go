package check

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resolverd/resolverd/registry"
)

func TestMetricsAreWellFormed(t *testing.T) {
	r := NewRunner(Config{Node: "n1"})
	r.meter.ran(registry.CheckTCP, registry.Passing, 1)
	problems, err := testutil.CollectAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	if n := testutil.CollectAndCount(r); n < 7 {
		t.Errorf("%d metrics", n)
	}
}
