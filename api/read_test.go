package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/catalog"
)

// fleet registers three nodes with a service each of web, and one of db.
func fleet(b *bench) {
	b.t.Helper()
	b.node("n2", "10.0.0.2", map[string]string{"rack": "a"})
	b.node("n3", "10.0.0.3", map[string]string{"rack": "b"})
	for _, body := range []string{
		`{"Node":"n1","Service":{"ID":"w1","Service":"web","Tags":["v1","blue"],"Port":80,"Meta":{"env":"prod","a-b":"x"}},"Check":{"CheckID":"c1","ServiceID":"w1","Status":"passing"}}`,
		`{"Node":"n2","Service":{"ID":"w2","Service":"web","Tags":["v2","blue"],"Port":80},"Check":{"CheckID":"c2","ServiceID":"w2","Status":"warning"}}`,
		`{"Node":"n3","Service":{"ID":"w3","Service":"Web","Port":80},"Check":{"CheckID":"c3","ServiceID":"w3","Status":"critical"}}`,
		`{"Node":"n3","Service":{"ID":"d1","Service":"db","Port":5432}}`,
	} {
		b.mustPut("/v1/catalog/register", body)
	}
}

// pull returns, of a JSON list, one string each by the path of keys.
func pull(t *testing.T, body string, path ...string) []string {
	t.Helper()
	var list []any
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	out := []string{}
	for _, x := range list {
		for _, k := range path {
			x = x.(map[string]any)[k]
		}
		out = append(out, x.(string))
	}
	return out
}

func TestSelection(t *testing.T) {
	b := newBench(t)
	fleet(b)
	for _, c := range []struct {
		path string
		want []string
		keys []string
	}{
		{"/v1/health/service/web", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/WEB", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/none", []string{}, []string{"Service", "ID"}},
		{"/v1/health/service/web?passing", []string{"w1"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?passing=1", []string{"w1"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?passing=false", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?tag=blue", []string{"w1", "w2"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?tag=BLUE&tag=v2", []string{"w2"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?node-meta=rack:a", []string{"w2"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?node-meta=rack:a&node-meta=x:y", []string{}, []string{"Service", "ID"}},
		{"/v1/health/service/web?near=n3", []string{"w3", "w1", "w2"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?near=_agent", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?near=_ip", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?near=none", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web?stale&dc=DC1&cached&max_stale=1s&ns=default", []string{"w1", "w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/catalog/service/web?tag=v1", []string{"w1"}, []string{"ServiceID"}},
		{"/v1/catalog/nodes", []string{"n1", "n2", "n3"}, []string{"Node"}},
		{"/v1/catalog/nodes?near=n2", []string{"n2", "n1", "n3"}, []string{"Node"}},
		{"/v1/catalog/nodes?node-meta=rack:b", []string{"n3"}, []string{"Node"}},
		{"/v1/health/state/any", []string{"c1", "c2", "c3"}, []string{"CheckID"}},
		{"/v1/health/state/any?near=n3", []string{"c3", "c1", "c2"}, []string{"CheckID"}},
		{"/v1/health/state/warning", []string{"c2"}, []string{"CheckID"}},
		{"/v1/health/state/critical?node-meta=rack:a", []string{}, []string{"CheckID"}},
		{"/v1/health/node/n2", []string{"c2"}, []string{"CheckID"}},
		{"/v1/health/node/none", []string{}, []string{"CheckID"}},
		{"/v1/health/checks/web", []string{"c1", "c2", "c3"}, []string{"CheckID"}},
		{"/v1/resolverd/instances?service=web&node=n2", []string{"w2"}, []string{"id"}},
		{"/v1/resolverd/instances?node=n3", []string{"d1", "w3"}, []string{"id"}},
		{"/v1/resolverd/instances", []string{"d1", "w1", "w2", "w3"}, []string{"id"}},
		{"/v1/resolverd/nodes", []string{"n1", "n2", "n3"}, []string{"name"}},
	} {
		a := b.get(c.path)
		if a.code != 200 {
			t.Errorf("%s: %d %s", c.path, a.code, a.body)
			continue
		}
		if diff := cmp.Diff(c.want, pull(t, a.body, c.keys...)); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
	}
}

func TestFilter(t *testing.T) {
	b := newBench(t)
	fleet(b)
	for _, c := range []struct {
		path, filter string
		want         []string // nil: 400
		keys         []string
	}{
		{"/v1/health/service/web", `Service.Meta.env == "prod"`, []string{"w1"}, []string{"Service", "ID"}},
		{"/v1/health/service/web", `Service.Meta["a-b"] == "x"`, []string{"w1"}, []string{"Service", "ID"}},
		{"/v1/health/service/web", `"blue" in Service.Tags and Checks.Status != "passing"`, nil, nil},
		{"/v1/health/service/web", `any Checks as c { c.Status == "warning" }`, []string{"w2"}, []string{"Service", "ID"}},
		{"/v1/health/service/web", `Node.Meta.rack == "b" or Service.ID == "w2"`, []string{"w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web", `Service.Tags is empty`, []string{"w3"}, []string{"Service", "ID"}},
		{"/v1/health/service/web", `Service.Port == 80 and not ("v1" in Service.Tags)`, []string{"w2", "w3"}, []string{"Service", "ID"}},
		{"/v1/catalog/service/web", `ServiceTags contains "v2"`, []string{"w2"}, []string{"ServiceID"}},
		{"/v1/catalog/service/web", `ServiceMeta.env == "prod" and NodeMeta.rack is not empty`, []string{}, []string{"ServiceID"}},
		{"/v1/catalog/service/none", `ServiceMeta.env == "prod"`, []string{}, []string{"ServiceID"}},
		{"/v1/catalog/nodes", `Meta.rack matches "[ab]"`, []string{"n2", "n3"}, []string{"Node"}},
		{"/v1/catalog/nodes", `TaggedAddresses.lan == "10.0.0.2"`, []string{"n2"}, []string{"Node"}},
		{"/v1/health/state/any", `ServiceName == "web"`, []string{"c1", "c2"}, []string{"CheckID"}},
		{"/v1/health/service/web", `Service.None == "x"`, nil, nil},
		{"/v1/health/service/web", `Service.ID ==`, nil, nil},
		{"/v1/health/service/web", strings.Repeat("a", 9000), nil, nil},
		{"/v1/health/service/web", strings.Repeat("(", 2000) + `Service.ID == "w1"` + strings.Repeat(")", 2000), nil, nil},
	} {
		a := b.get(c.path + "?filter=" + url.QueryEscape(c.filter))
		if c.want == nil {
			if a.code != 400 || !strings.HasPrefix(a.body, "filter: ") {
				t.Errorf("%s: %d %s", clip(c.filter), a.code, clip(a.body))
			}
			continue
		}
		if a.code != 200 {
			t.Errorf("%s: %d %s", c.filter, a.code, a.body)
			continue
		}
		if diff := cmp.Diff(c.want, pull(t, a.body, c.keys...)); diff != "" {
			t.Errorf("%s: %s", c.filter, diff)
		}
	}
	for filter, want := range map[string]string{
		`ServiceName matches "(?i)^w"`: `{"web":["blue","v1","v2"]}`,
		`ServiceName == "web"`:         `{"web":["blue","v1","v2"]}`,
		`"v1" in ServiceTags`:          `{"web":["blue","v1"]}`,
		`ServicePort == 5432`:          `{"db":[]}`,
	} {
		if a := b.get("/v1/catalog/services?filter=" + url.QueryEscape(filter)); strings.TrimSpace(a.body) != want {
			t.Errorf("services, %s: %s", filter, a.body)
		}
	}
	for path, want := range map[string]string{
		"/v1/catalog/services":                      `{"db":[],"web":["blue","v1","v2"]}`,
		"/v1/catalog/services?tag=v1&passing":       `{"db":[],"web":["blue","v1","v2"]}`,
		"/v1/catalog/services?node-meta=rack:a":     `{"web":["blue","v2"]}`,
		"/v1/catalog/services?node-meta=rack:b&x=y": `{"db":[],"web":[]}`,
	} {
		if a := b.get(path); strings.TrimSpace(a.body) != want {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if a := b.get("/v1/agent/services?filter=" + url.QueryEscape(`Service == "web"`)); !strings.Contains(a.body, `"w1"`) {
		t.Errorf("agent services: %s", a.body)
	}
}

func clip(s string) string {
	if len(s) > 80 {
		s = s[:80]
	}
	return s
}

func TestRefusedReads(t *testing.T) {
	b := newBench(t)
	for path, want := range map[string]string{
		"/v1/catalog/nodes?stale&consistent":   "400 Cannot specify ?stale with ?consistent",
		"/v1/catalog/nodes?dc=mars":            "500 No path to datacenter",
		"/v1/status/leader?dc=mars":            "500 No path to datacenter",
		"/v1/catalog/nodes?index=x":            "400 Invalid index",
		"/v1/catalog/nodes?wait=5":             "400 Invalid wait time",
		"/v1/catalog/nodes?wait=-5s":           "400 Invalid wait time",
		"/v1/catalog/nodes?node-meta=x":        "400 node-meta",
		"/v1/health/state/fine":                "400 state",
		"/v1/resolverd/history?limit=x":        "400 limit",
		"/v1/resolverd/history?limit=0":        "400 limit",
		"/v1/resolverd/history?since=tomorrow": "400 since",
		"/v1/agent/service/none":               "404 unknown service ID: none",
	} {
		a := b.get(path)
		if got := http.StatusText(a.code); !strings.HasPrefix(itoa(a.code)+" "+a.body, want) {
			t.Errorf("%s: %d %s: %s", path, a.code, got, a.body)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestProbeCodes(t *testing.T) {
	b := newBench(t)
	b.mustPut("/v1/agent/service/register", `{"Name":"web","ID":"w1","Check":{"CheckID":"k","TTL":"1m"}}`)
	b.mustPut("/v1/agent/service/register", `{"Name":"web","ID":"w2"}`)
	probe := func(path, want string) {
		t.Helper()
		a := b.get(path + "?format=text")
		if got := itoa(a.code) + " " + strings.TrimSpace(a.body); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		if a := b.get(path); a.code != http.StatusNotFound && !json.Valid([]byte(a.body)) {
			t.Errorf("%s: no JSON: %s", path, a.body)
		}
	}
	const id, name = "/v1/agent/health/service/id/w1", "/v1/agent/health/service/name/web"
	for _, s := range []struct{ do, want string }{
		{"/v1/agent/check/fail/k", "503 critical"}, {"/v1/agent/check/warn/k", "429 warning"}, {"/v1/agent/check/pass/k", "200 passing"},
		{"/v1/agent/service/maintenance/w1?enable=true", "503 maintenance"}, {"/v1/agent/service/maintenance/w1?enable=false", "200 passing"},
		{"/v1/agent/maintenance?enable=true", "503 maintenance"}, {"/v1/agent/maintenance?enable=false", "200 passing"},
	} {
		b.mustPut(s.do, "")
		probe(id, s.want)
		probe(name, s.want) // the worst of w1 and w2
	}
	probe("/v1/agent/health/service/id/none", "404 ServiceId none not found")
	probe("/v1/agent/health/service/name/none", "404 ServiceName none Not Found")
}

// TestShapes pins the JSON to the letter, where clients in other languages look.
func TestShapes(t *testing.T) {
	b := newBench(t)
	b.mustPut("/v1/agent/service/register", `{"Name":"web","Check":{"CheckID":"k","HTTP":"http://127.0.0.1/","Interval":"10s","Timeout":"1s"}}`)
	created := itoa(int(b.store.View.Load().Revision))
	node := `{"ID":"","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.1","lan_ipv4":"10.0.0.1","wan":"10.0.0.1","wan_ipv4":"10.0.0.1"},"Meta":{},"CreateIndex":2,"ModifyIndex":2}`
	at := `"CreateIndex":` + created + `,"ModifyIndex":` + created
	service := `{"Kind":"","ID":"web","Service":"web","Tags":[],"Meta":{},"Port":0,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,` + at + `}`
	check := `{"Node":"n1","CheckID":"k","Name":"Service 'web' check","Status":"critical","Notes":"","Output":"","ServiceID":"web","ServiceName":"web","ServiceTags":[],"Type":"http","Interval":"10s","Timeout":"1s","ExposedPort":0,"Definition":{"HTTP":"http://127.0.0.1/","Interval":"10s","Timeout":"1s"},` + at + `}`
	for path, want := range map[string]string{
		"/v1/health/service/web":         `[{"Node":` + node + `,"Service":` + service + `,"Checks":[` + check + `]}]`,
		"/v1/health/service/none":        `[]`,
		"/v1/health/state/passing":       `[]`,
		"/v1/health/node/n1":             `[` + check + `]`,
		"/v1/catalog/nodes":              `[` + node + `]`,
		"/v1/catalog/services":           `{"web":[]}`,
		"/v1/catalog/service/none":       `[]`,
		"/v1/catalog/node/n1":            `{"Node":` + node + `,"Services":{"web":` + service + `}}`,
		"/v1/catalog/node/none":          `null`,
		"/v1/catalog/node-services/n1":   `{"Node":` + node + `,"Services":[` + service + `]}`,
		"/v1/catalog/node-services/none": `{"Node":null,"Services":[]}`,
		"/v1/catalog/datacenters":        `["dc1"]`,
		"/v1/agent/checks":               `{"k":` + check + `}`,
		"/v1/status/leader":              `"10.0.0.1:8300"`,
		"/v1/status/peers":               `["10.0.0.1:8300"]`,
		"/v1/catalog/service/web":        `[{"ID":"","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.1","lan_ipv4":"10.0.0.1","wan":"10.0.0.1","wan_ipv4":"10.0.0.1"},"NodeMeta":{},"ServiceKind":"","ServiceID":"web","ServiceName":"web","ServiceTags":[],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{},"ServicePort":0,"ServiceEnableTagOverride":false,` + at + `}]`,
	} {
		a := b.get(path)
		if diff := cmp.Diff(want, strings.TrimSpace(a.body)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	if a := b.get("/v1/catalog/services?pretty"); a.body != "{\n    \"web\": []\n}\n" {
		t.Errorf("pretty: %q", a.body)
	}
	empty := newBench(t)
	for _, path := range []string{"/v1/agent/services", "/v1/agent/checks", "/v1/catalog/services"} {
		if a := empty.get(path); a.body != "{}\n" {
			t.Errorf("%s of nothing: %s", path, a.body)
		}
	}
}

func TestCatalogRegister(t *testing.T) {
	b := newBench(t)
	reg := func(body, changed string) {
		t.Helper()
		a := b.mustPut("/v1/catalog/register", body)
		if a.body != "true\n" || a.header.Get("X-Resolverd-Changed") != changed {
			t.Fatalf("%s: %s changed %q", body, a.body, a.header.Get("X-Resolverd-Changed"))
		}
	}
	reg(`{"Node":"ext","Address":"db.example.com","NodeMeta":{"a":"b"},"TaggedAddresses":{"wan":"192.0.2.1"}}`, "true")
	reg(`{"Node":"ext","Address":"db.example.com","NodeMeta":{"a":"b"},"TaggedAddresses":{"wan":"192.0.2.1"}}`, "false")
	n := b.store.View.Load().Node("ext")
	if n.Address.Name() != "db.example.com" || n.Meta["a"] != "b" || n.Networks["wan"].String() != "192.0.2.1" {
		t.Fatalf("%+v", n.Node)
	}
	reg(`{"Node":"ext","Address":"other.example.com","SkipNodeUpdate":true,"Service":{"Service":"x"}}`, "true")
	if n := b.store.View.Load().Node("ext"); n.Address.Name() != "db.example.com" || len(n.Instances) != 1 {
		t.Fatalf("%+v", n.Node)
	}
	reg(`{"Node":"ext","Address":"db.example.com","Checks":[{"CheckID":"a","Status":"passing"},{"Name":"b"}]}`, "true")
	if n := b.store.View.Load().Node("ext"); len(n.Checks) != 2 {
		t.Fatalf("%+v", n.Checks)
	}
	// An agent's own node keeps what only its agent knows.
	h, _ := registry.ParseHost("10.0.0.9")
	if _, err := b.cat.Register(context.Background(), catalog.Actor{Name: "agent"}, catalog.Registration{Node: &registry.Node{Name: "n9", Address: h, Agent: true, ID: "uuid", Zone: "z"}}); err != nil {
		t.Fatal(err)
	}
	reg(`{"Node":"n9","Address":"10.0.0.10"}`, "true")
	if n := b.store.View.Load().Node("n9"); !n.Agent || n.ID != "uuid" || n.Zone != "z" || n.Address.String() != "10.0.0.10" {
		t.Fatalf("%+v", n.Node)
	}
	if a := b.mustPut("/v1/catalog/deregister", `{"Node":"ext","CheckID":"a"}`); a.header.Get("X-Resolverd-Changed") != "true" {
		t.Fatal("check")
	}
	if a := b.mustPut("/v1/catalog/deregister", `{"Node":"ext","ServiceID":"x"}`); a.header.Get("X-Resolverd-Changed") != "true" {
		t.Fatal("service")
	}
	if a := b.mustPut("/v1/catalog/deregister", `{"Node":"ext","ServiceID":"x"}`); a.body != "true\n" || a.header.Get("X-Resolverd-Changed") != "false" {
		t.Fatal("service twice")
	}
	if a := b.mustPut("/v1/catalog/deregister", `{"Node":"ext"}`); a.header.Get("X-Resolverd-Changed") != "true" || b.store.View.Load().Node("ext") != nil {
		t.Fatal("node")
	}
}

func TestOwnEndpoints(t *testing.T) {
	b := newBench(t)
	b.mustPut("/v1/agent/service/register", `{"Name":"web","Port":80,"Priority":5,"Zone":"z1"}`)
	b.mustPut("/v1/resolverd/service/drain/web?enable=true&reason=deploy", "")
	var list []map[string]any
	if err := json.Unmarshal([]byte(b.get("/v1/resolverd/instances").body), &list); err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	for k, want := range map[string]any{"id": "web", "state": "draining", "weight": 0.0, "effective_address": "10.0.0.1", "owner": "api", "priority": 5.0, "zone": "z1", "drain": true, "label": registry.InstanceLabel("n1", "web")} {
		if list[0][k] != want {
			t.Errorf("%s is %v, want %v", k, list[0][k], want)
		}
	}
	for _, path := range []string{"/v1/health/service/web", "/v1/catalog/service/web", "/v1/agent/service/web"} {
		if a := b.get(path); !strings.Contains(a.body, `Weights":{"Passing":0,"Warning":0}`) {
			t.Errorf("%s does not show the drain: %s", path, a.body)
		}
	}
	var st map[string]any
	if err := json.Unmarshal([]byte(b.get("/v1/resolverd/status").body), &st); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"version": "1.0.0", "node": "n1", "loaded": true, "services": 1.0, "instances": 1.0, "nodes": 1.0} {
		if st[k] != want {
			t.Errorf("%s is %v, want %v", k, st[k], want)
		}
	}
	var ev []registry.Event
	if err := json.Unmarshal([]byte(b.get("/v1/resolverd/history?name=WEB&since=1h&limit=5").body), &ev); err != nil || len(ev) != 2 {
		t.Fatal(err, ev)
	}
	if e := ev[0]; e.Action != "drain" || e.Reason != "deploy" || e.Actor != "api" || !strings.HasPrefix(e.Source, "127.0.0.1:") || e.To != "on" {
		t.Errorf("%+v", e)
	}
	if a := b.get("/v1/resolverd/history?name=none"); a.body != "[]\n" {
		t.Errorf("no history: %s", a.body)
	}
	b.mustPut("/v1/resolverd/drain?enable=false", "")
	m := b.get("/v1/resolverd/metrics").body
	for _, want := range []string{
		`resolverd_api_requests_total{code="200",endpoint="/v1/resolverd/history"} 2`,
		"resolverd_api_blocking_queries 0", "resolverd_view_revision ", "resolverd_view_age_seconds ",
	} {
		if !strings.Contains(m, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(m, "WEB") {
		t.Error("metrics show what was asked for")
	}
}

func TestRegisteredNodesAreMembers(t *testing.T) {
	b := newBench(t)
	b.node("ext", "10.0.0.5", nil)
	h, _ := registry.ParseHost("10.0.0.9")
	if _, err := b.cat.Register(context.Background(), catalog.Actor{}, catalog.Registration{Node: &registry.Node{Name: "gone", Address: h, Agent: true}}); err != nil {
		t.Fatal(err)
	}
	var members []struct {
		Name   string
		Status int
	}
	if err := json.Unmarshal([]byte(b.get("/v1/agent/members").body), &members); err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, m := range members {
		got = append(got, m.Name+itoa(m.Status))
	}
	if !slices.Equal(got, []string{"gone4", "n11"}) {
		t.Fatal(got)
	}
}
