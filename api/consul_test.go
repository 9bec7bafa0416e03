package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// consul is Consul's own client on our API.
func (b *bench) consul() *api.Client {
	b.t.Helper()
	tr := &http.Transport{}
	b.t.Cleanup(tr.CloseIdleConnections)
	c, err := api.NewClient(&api.Config{Address: strings.TrimPrefix(b.srv.URL, "http://"), HttpClient: &http.Client{Transport: tr}})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestConsulClientRegistersAndReads(t *testing.T) {
	b := newBench(t)
	c := b.consul()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(c.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "web1", Name: "web", Tags: []string{"v1", "blue"}, Port: 8080, Address: "10.0.0.9",
		Meta: map[string]string{"k": "v"}, Weights: &api.AgentWeights{Passing: 10, Warning: 2},
		TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "192.0.2.1", Port: 80}},
		Check:           &api.AgentServiceCheck{TTL: "30s", DeregisterCriticalServiceAfter: "1m"},
		Checks:          api.AgentServiceChecks{{CheckID: "tcp", TCP: "10.0.0.9:8080", Interval: "5s", Status: "passing"}},
	}))
	svcs := must[map[string]*api.AgentService](t)(c.Agent().Services())
	want := &api.AgentService{
		ID: "web1", Service: "web", Tags: []string{"v1", "blue"}, Port: 8080, Address: "10.0.0.9",
		Meta: map[string]string{"k": "v"}, Weights: api.AgentWeights{Passing: 10, Warning: 2},
		TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "192.0.2.1", Port: 80}},
		Datacenter:      "dc1",
	}
	got := *svcs["web1"]
	got.CreateIndex, got.ModifyIndex = 0, 0
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Fatal(diff)
	}
	checks := must[map[string]*api.AgentCheck](t)(c.Agent().Checks())
	if k := checks["service:web1:1"]; k == nil || k.Status != "critical" || k.Type != "ttl" || k.ServiceName != "web" {
		t.Fatalf("ttl check: %+v", checks)
	}
	entries, meta, err := c.Health().Service("web", "", true, nil)
	ok(err)
	if len(entries) != 0 || meta.LastIndex == 0 || !meta.KnownLeader {
		t.Fatalf("passing before the check passed: %v %+v", entries, meta)
	}
	ok(c.Agent().UpdateTTL("service:web1:1", "fine", "pass"))
	entries, _, err = c.Health().Service("web", "blue", true, nil)
	ok(err)
	if len(entries) != 1 || entries[0].Node.Node != "n1" || entries[0].Service.Port != 8080 || len(entries[0].Checks) != 2 || entries[0].Checks.AggregatedStatus() != "passing" {
		t.Fatalf("entries: %+v", entries)
	}
	status, info, err := c.Agent().AgentHealthServiceByID("web1")
	ok(err)
	if status != "passing" || info.Service.ID != "web1" {
		t.Fatalf("health by id: %s %+v", status, info)
	}
	ok(c.Agent().EnableServiceMaintenance("web1", "deploy"))
	status, _, err = c.Agent().AgentHealthServiceByName("web")
	ok(err)
	if status != "critical" { // Consul's client reads 503 as critical
		t.Fatalf("health by name in maintenance: %s", status)
	}
	ok(c.Agent().DisableServiceMaintenance("web1"))
	ok(c.Agent().EnableNodeMaintenance("all"))
	ok(c.Agent().DisableNodeMaintenance())
	all, _, err := c.Catalog().Services(nil)
	ok(err)
	if diff := cmp.Diff(map[string][]string{"web": {"blue", "v1"}}, all); diff != "" {
		t.Fatal(diff)
	}
	cs, _, err := c.Catalog().Service("web", "", nil)
	ok(err)
	if len(cs) != 1 || cs[0].ServiceWeights.Passing != 10 || cs[0].Address != "10.0.0.1" || cs[0].ServiceAddress != "10.0.0.9" {
		t.Fatalf("catalog service: %+v", cs)
	}
	nodes, _, err := c.Catalog().Nodes(nil)
	ok(err)
	if len(nodes) != 1 || nodes[0].TaggedAddresses["lan"] != "10.0.0.1" {
		t.Fatalf("nodes: %+v", nodes)
	}
	cn, _, err := c.Catalog().Node("n1", nil)
	ok(err)
	if cn.Services["web1"] == nil {
		t.Fatalf("node: %+v", cn)
	}
	if n, _, err := c.Catalog().Node("none", nil); err != nil || n != nil {
		t.Fatalf("a node that is not there: %v %v", n, err)
	}
	list, _, err := c.Catalog().NodeServiceList("n1", nil)
	ok(err)
	if len(list.Services) != 1 {
		t.Fatalf("node services: %+v", list)
	}
	state, _, err := c.Health().State("any", nil)
	ok(err)
	if len(state) != 2 || state[0].Definition.IntervalDuration == 0 && state[1].Definition.IntervalDuration != 5*time.Second {
		t.Fatalf("state: %+v", state)
	}
	if l := must[string](t)(c.Status().Leader()); l != "10.0.0.1:8300" {
		t.Fatalf("leader %q", l)
	}
	if p := must[[]string](t)(c.Status().Peers()); len(p) != 1 {
		t.Fatalf("peers %q", p)
	}
	self := must[map[string]map[string]any](t)(c.Agent().Self())
	if self["Config"]["Datacenter"] != "dc1" || self["Config"]["NodeName"] != "n1" {
		t.Fatalf("self: %v", self)
	}
	if m := must[[]*api.AgentMember](t)(c.Agent().Members(false)); len(m) != 1 || m[0].Name != "n1" {
		t.Fatalf("members: %v", m)
	}
	if d := must[[]string](t)(c.Catalog().Datacenters()); len(d) != 1 || d[0] != "dc1" {
		t.Fatalf("datacenters: %v", d)
	}
	one, _, err := c.Agent().Service("web1", nil)
	ok(err)
	if one.ContentHash == "" {
		t.Fatal("no content hash")
	}
	ok(c.Agent().ServiceDeregister("web1"))
	if err := c.Agent().ServiceDeregister("web1"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Fatalf("second deregistration: %v", err)
	}
}

func TestConsulClientCatalog(t *testing.T) {
	b := newBench(t)
	c := b.consul()
	reg := &api.CatalogRegistration{
		Node: "ext1", Address: "198.51.100.7", NodeMeta: map[string]string{"external": "true"},
		Service: &api.AgentService{ID: "db1", Service: "db", Port: 5432},
		Check:   &api.AgentCheck{Node: "ext1", CheckID: "db-up", Name: "up", Status: "passing", ServiceID: "db1"},
	}
	if _, err := c.Catalog().Register(reg, nil); err != nil {
		t.Fatal(err)
	}
	e, _, err := c.Health().Service("db", "", true, &api.QueryOptions{NodeMeta: map[string]string{"external": "true"}})
	if err != nil || len(e) != 1 || e[0].Service.Weights.Passing != 1 { // the client sent 0
		t.Fatalf("db: %+v %v", e, err)
	}
	reg.Check.Status = "critical"
	if _, err := c.Catalog().Register(reg, nil); err != nil {
		t.Fatal(err)
	}
	if e, _, _ := c.Health().Service("db", "", true, nil); len(e) != 0 {
		t.Fatal("a critical status through the catalogue was not taken")
	}
	if _, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: "ext1"}, nil); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := c.Catalog().Nodes(nil); len(n) != 1 {
		t.Fatalf("nodes after: %v", n)
	}
}
