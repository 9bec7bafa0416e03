package relay

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resolverd/resolverd/registry"
)

func TestMetrics(t *testing.T) {
	f := NewFollower(FollowerConfig{View: registry.NewView(), Log: quiet})
	problems, err := testutil.CollectAndLint(f)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	docs, err := os.ReadFile("../../docs/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 100)
	f.Describe(descs)
	close(descs)
	for d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		if !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("docs/registry.md does not have %s", name)
		}
	}
}
