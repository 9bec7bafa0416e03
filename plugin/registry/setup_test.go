package registry

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/registry/names/scene"
)

func TestParse(t *testing.T) {
	h := handler(t, `registry internal svc.Example.org {
		ttl 7s
		ttl web* 1m
		ttl db 0
		negative_ttl 9
		only_passing api
		all_critical last_good
		all_critical nxdomain web
		srv_drain omit
		short
		exclusive
		fallthrough a.org
		datacenter FRA1
		ns dns1.example.net
		mbox ops.example.net
	}
	registry consul {
		srv_drain keep
	}`, "")
	if len(h.zones) != 3 {
		t.Fatalf("%d zones", len(h.zones))
	}
	for i, origin := range []string{"internal.", "svc.example.org."} {
		z := h.zones[i]
		switch {
		case z.Origin != origin,
			z.TTL.For("") != 7*time.Second, z.TTL.For("web1") != time.Minute, z.TTL.For("db") != 0,
			z.NegativeTTL.For("x") != 9*time.Second,
			z.OnlyPassing.For("x"), !z.OnlyPassing.For("api"),
			!z.LastGood.For("x"), z.LastGood.For("web"),
			!z.OmitDraining, !z.Short, !z.Exclusive, !z.fall.Through("x.a.org."), z.fall.Through("internal."),
			z.Datacenter != "fra1", z.NS != "dns1.example.net.", z.Mbox != "ops.example.net.":
			t.Errorf("%s: %+v", origin, z)
		}
	}
	if z := h.zones[2]; !z.Consul || z.Short || z.OmitDraining || z.TTL.Default != 5*time.Second || z.Datacenter != "dc1" {
		t.Errorf("consul: %+v", z)
	}
}

func TestDefaultZones(t *testing.T) {
	for keys, want := range map[string]string{
		".:53":                      "internal.",
		"svc.org:53 .:53":           "svc.org.",
		"10.in-addr.arpa.:53":       "internal.",
		"consul.:53 a.internal.:53": "consul. a.internal.",
	} {
		c := caddy.NewTestController("dns", "registry")
		c.ServerBlockKeys = strings.Fields(keys)
		h, err := parse(c)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, z := range h.zones {
			got = append(got, z.Origin)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", keys, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for corefile, want := range map[string]string{
		"registry a a":                                      `"a." is given twice`,
		"registry a\nregistry b A":                          `"a." is given twice`,
		"registry .":                                        "cannot be a registry zone",
		"registry 10.0.0.0/8":                               "cannot be a registry zone",
		"registry a..b":                                     "no zone name",
		"registry {\n ttl\n}":                               "ttl wants",
		"registry {\n ttl 1 2 3\n}":                         "ttl wants",
		"registry {\n ttl -1s\n}":                           "whole seconds",
		"registry {\n ttl 1500ms\n}":                        "whole seconds",
		"registry {\n ttl 8d\n}":                            "whole seconds",
		"registry {\n ttl 999999\n}":                        "whole seconds",
		"registry {\n ttl a.b 5s\n}":                        "no service name",
		"registry {\n negative_ttl x\n}":                    "negative_ttl",
		"registry {\n only_passing a*b\n}":                  "no service name",
		"registry {\n all_critical\n}":                      "nxdomain or last_good",
		"registry {\n all_critical servfail\n}":             "nxdomain or last_good",
		"registry {\n srv_drain\n}":                         "keep or omit",
		"registry {\n short yes\n}":                         "short takes no argument",
		"registry {\n exclusive x\n}":                       "exclusive takes no argument",
		"registry {\n datacenter\n}":                        "Wrong argument count",
		"registry {\n datacenter service\n}":                "data centre",
		"registry {\n datacenter a.b\n}":                    "data centre",
		"registry {\n ns\n}":                                "ns wants a name",
		"registry {\n mbox a..b\n}":                         "is no name",
		"registry {\n colour red\n}":                        `unknown option "colour"`,
		"registry " + strings.Repeat("abcdefgh.", 12) + "x": "longer than",
	} {
		c := caddy.NewTestController("dns", corefile)
		_, err := parse(c)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: got %v, want %q with file and line", corefile, err, want)
		}
	}
}

func TestProvided(t *testing.T) {
	v := scene.New(basic)
	resident.Provide(ProvidedView, v)
	resident.Provide(ProvidedDatacenter, "fra1")
	defer resident.Provide(ProvidedView, nil)
	defer resident.Provide(ProvidedDatacenter, nil)
	h := handler(t, "registry", "")
	if h.view != v || h.zones[0].Datacenter != "fra1" {
		t.Errorf("view %p of %p, data centre %q", h.view, v, h.zones[0].Datacenter)
	}
}

// TestReadme parses the blocks of the README that use the directive.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)~~~ corefile\n(.*?)~~~").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, b := range blocks {
		servers, err := caddyfile.Parse("README.md", strings.NewReader(b[1]), nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, b[1])
		}
		for _, s := range servers {
			c := caddy.NewTestController("dns", "")
			c.Dispenser = caddyfile.NewDispenserTokens("README.md", s.Tokens[pluginName])
			c.ServerBlockKeys = s.Keys
			if h, err := parse(c); err != nil || len(h.zones) == 0 {
				t.Errorf("%v in\n%s", err, b[1])
			}
		}
	}
}

// TestReadmeTellsAll: every option and metric is in the README.
func TestReadmeTellsAll(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("setup.go")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`case "([a-z_]+)":`).FindAllStringSubmatch(string(source), -1)
	for _, name := range []string{"queries_total", "view_loaded", "view_age_seconds", "view_revision", "services", "nodes", "addresses"} {
		words = append(words, []string{"", "resolverd_registry_" + name})
	}
	if len(words) < 15 {
		t.Fatalf("%d words", len(words))
	}
	for _, w := range words {
		if !strings.Contains(string(text), "`"+w[1]) {
			t.Errorf("%s is not in the README", w[1])
		}
	}
}

func TestMetrics(t *testing.T) {
	h := handler(t, "registry", basic)
	observe(h.view)
	observe(h.view) // a reload
	before := testutil.ToFloat64(queries.WithLabelValues("internal.", "one", "data"))
	exchange(t, h, ask("One.service.internal.", "A"))
	exchange(t, h, ask("no-such.service.internal.", "A"))
	if got := testutil.ToFloat64(queries.WithLabelValues("internal.", "one", "data")) - before; got != 1 {
		t.Errorf("counted %v", got)
	}
	if testutil.ToFloat64(queries.WithLabelValues("internal.", "", "nxdomain")) < 1 {
		t.Error("a name that is no service is not counted")
	}
	now := time.Now()
	h.view.Heard(now)
	c := viewCollector{now: func() time.Time { return now.Add(2 * time.Second) }}
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP resolverd_registry_view_age_seconds Time since the store was last heard of; absent where it never was.
# TYPE resolverd_registry_view_age_seconds gauge
resolverd_registry_view_age_seconds 2
# HELP resolverd_registry_services Services in the view.
# TYPE resolverd_registry_services gauge
resolverd_registry_services 3
`), "resolverd_registry_view_age_seconds", "resolverd_registry_services"); err != nil {
		t.Error(err)
	}
	if p, err := testutil.CollectAndLint(c); err != nil || len(p) > 0 {
		t.Error(p, err)
	}
	if p, err := testutil.CollectAndLint(queries); err != nil || len(p) > 0 {
		t.Error(p, err)
	}
}

func TestMetricsBoundServices(t *testing.T) {
	metrics.mu.Lock()
	had := metrics.services
	metrics.services = map[string]bool{}
	for i := range maxServices {
		metrics.services[string(rune('a'+i%26))+strings.Repeat("x", i)] = true
	}
	metrics.mu.Unlock()
	defer func() {
		metrics.mu.Lock()
		metrics.services = had
		metrics.mu.Unlock()
	}()
	before := testutil.ToFloat64(queries.WithLabelValues("z.", "other", "data"))
	count("z.", "one-more", "data")
	if testutil.ToFloat64(queries.WithLabelValues("z.", "other", "data"))-before != 1 {
		t.Error("a service beyond the bound has a label")
	}
}
