package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/resolverd/resolverd/registry"
)

func host(t testing.TB, s string) registry.Host {
	t.Helper()
	h, err := registry.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func sec(n int) registry.Duration { return registry.Duration(time.Duration(n) * time.Second) }

func TestParse(t *testing.T) {
	one := registry.DefaultWeights
	for _, tc := range []struct {
		name, in string
		want     File
	}{
		{"the least", "service: {name: web}\n", File{Services: []Definition{{Line: 1, Instance: &registry.Instance{ID: "web", Service: "web", Weights: one}}}}},
		{"all that a service has", `
services:
  - name: web
    id: web-1
    tags: [a, "b"]
    meta: {version: 1.10, yes: true}
    address: 10.0.0.5
    port: 8080
    ports: {admin: 9090}
    networks: {wan: {address: 192.0.2.1, port: 80}, lan: 10.0.0.5}
    weights: {passing: 10}
    priority: 2
    zone: a
    drain: true
    enable_tag_override: true
`, File{Services: []Definition{{Line: 3, Instance: &registry.Instance{
			ID: "web-1", Service: "web", Tags: []string{"a", "b"}, Meta: map[string]string{"version": "1.10", "yes": "true"},
			Address: host(t, "10.0.0.5"), Port: 8080, Ports: []registry.NamedPort{{Name: "admin", Port: 9090}},
			Networks: map[string]registry.Endpoint{"wan": {Address: host(t, "192.0.2.1"), Port: 80}, "lan": {Address: host(t, "10.0.0.5")}},
			Weights:  registry.Weights{Passing: 10, Warning: 1}, Priority: 2, Zone: "a", Drain: true, EnableTagOverride: true,
		}}}}},
		{"checks of each kind", `
service:
  name: db
  checks:
    - {http: "https://127.0.0.1/health", method: POST, body: x, header: {Host: db, X: [a, b]}, disable_redirects: true, tls_server_name: db, tls_skip_verify: true}
    - {tcp: "127.0.0.1:1", tcp_use_tls: true, interval: 10s, timeout: 500ms}
    - {id: u, name: U, notes: N, status: passing, udp: "127.0.0.1:2"}
    - {grpc: "127.0.0.1:3/db", success_before_passing: 2, failures_before_warning: 1, failures_before_critical: 4}
    - {args: [/bin/true, 1], warning_is_critical: true, deregister_critical_after: 90s}
    - {ttl: 30s}
    - {alias_service: web, alias_node: n2}
`, File{script: 9, Services: []Definition{{Line: 3, Instance: &registry.Instance{ID: "db", Service: "db", Weights: one}, Checks: []*registry.Check{
			{ID: "service:db:1", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "http", URL: "https://127.0.0.1/health", Method: "POST", Body: "x", Header: map[string][]string{"Host": {"db"}, "X": {"a", "b"}}, NoRedirects: true, TLSServerName: "db", TLSSkipVerify: true}},
			{ID: "service:db:2", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "tcp", Target: "127.0.0.1:1", TLS: true, Interval: sec(10), Timeout: registry.Duration(500 * time.Millisecond)}},
			{ID: "u", Name: "U", Notes: "N", Status: "passing", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "udp", Target: "127.0.0.1:2"}},
			{ID: "service:db:4", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "grpc", Target: "127.0.0.1:3/db", SuccessBeforePassing: 2, FailuresBeforeWarning: 1, FailuresBeforeCritical: 4}},
			{ID: "service:db:5", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "script", Args: []string{"/bin/true", "1"}, WarningIsCritical: true, DeregisterCriticalAfter: sec(90)}},
			{ID: "service:db:6", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "ttl", TTL: sec(30)}},
			{ID: "service:db:7", InstanceID: "db", Definition: &registry.CheckDefinition{Kind: "alias", AliasNode: "n2", AliasInstance: "web"}},
		}}}}},
		{"Consul's file, with tabs and its own spelling", "{\n\t\"service\": {\n\t\t\"Name\": \"web\",\n\t\t\"ID\": \"web-1\",\n\t\t\"Port\": 80,\n\t\t\"EnableTagOverride\": false,\n\t\t\"tagged_addresses\": {\"lan\": {\"address\": \"10.0.0.1\", \"port\": 80}},\n\t\t\"token\": \"t\",\n\t\t\"meta\": null,\n\t\t\"check\": {\"id\": \"h\", \"http\": \"http:\\/\\/localhost\", \"DeregisterCriticalServiceAfter\": \"90m\", \"Interval\": \"10s\", \"tcp\": \"\", \"args\": []}\n\t}\n}",
			File{Notes: Faults{{File: "f", Line: 8, What: "token is left out: " + noMesh}}, Services: []Definition{{Line: 2, Instance: &registry.Instance{ID: "web-1", Service: "web", Port: 80, Weights: one, Networks: map[string]registry.Endpoint{"lan": {Address: host(t, "10.0.0.1"), Port: 80}}}, Checks: []*registry.Check{
				{ID: "h", InstanceID: "web-1", Definition: &registry.CheckDefinition{Kind: "http", URL: "http://localhost", Interval: sec(10), DeregisterCriticalAfter: registry.Duration(90 * time.Minute)}}}}}}},
		{"Consul's named ports", `{"service": {"name": "w", "ports": [{"name": "http", "port": 80, "default": true}, {"name": "adm", "port": 81}]}}`,
			File{Services: []Definition{{Line: 1, Instance: &registry.Instance{ID: "w", Service: "w", Port: 80, Weights: one, Ports: []registry.NamedPort{{Name: "http", Port: 80}, {Name: "adm", Port: 81}}}}}}},
		{"a check of the node", "check: {id: disk, args: [/bin/df]}\n", File{script: 1, Checks: []*registry.Check{{ID: "disk", Owner: registry.OwnerFile, Definition: &registry.CheckDefinition{Kind: "script", Args: []string{"/bin/df"}}}}}},
		{"nothing, said aloud", "services: []\n", File{}},
		{"an alias", "services:\n- {name: a, check: &c {tcp: 'x:1'}}\n- {name: b, check: *c}\n", File{Services: []Definition{
			{Line: 2, Instance: &registry.Instance{ID: "a", Service: "a", Weights: one}, Checks: []*registry.Check{{ID: "service:a", InstanceID: "a", Definition: &registry.CheckDefinition{Kind: "tcp", Target: "x:1"}}}},
			{Line: 3, Instance: &registry.Instance{ID: "b", Service: "b", Weights: one}, Checks: []*registry.Check{{ID: "service:b", InstanceID: "b", Definition: &registry.CheckDefinition{Kind: "tcp", Target: "x:1"}}}},
		}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse("f", []byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got, cmp.AllowUnexported(File{}, registry.Host{}), cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Definition{}), cmpopts.EquateComparable(registry.Host{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseFaults(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"all at once", "services:\n- nmae: web\n  port: 70000\n- name: db\n  check: {interval: 5}\n  tags: x\n",
			`f:2: service has no key "nmae" (did you mean name?)
f:2: a service needs a name (name: web)
f:3: port cannot be "70000" (0 to 65535)
f:5: interval cannot be "5" (a number with a unit, as 5s, 500ms or 2m)
f:6: tags must be a list`},
		{"empty", "", "f: is empty (write services: [] or remove the file)"},
		{"only a comment", "# later\n", "f: is empty (write services: [] or remove the file)"},
		{"not YAML", "services:\n- a: [\n", "f:2: not valid YAML or JSON: did not find expected node content"},
		{"two documents", "service: {name: a}\n---\nservice: {name: b}\n", "f:2: a second document in one file (write one list of services)"},
		{"no wrapper", "name: web\nport: 1\n", `f:1: the keys of a service stand at the top of the file (write it below "service:")`},
		{"a list at the top", "- name: web\n", "f:1: file must be a mapping of keys to values"},
		{"key twice", "service: {name: a}\nservice: {name: b}\n", `f:2: "service" is in the same file already, on line 1`},
		{"id twice", "services:\n- name: a\n- name: a\n", `f:3: service id "a" is on line 2 already (give one of them another id)`},
		{"no kind", "service:\n  name: a\n  check: {interval: 5s}\n", "f:3: a check needs a kind (one of http, tcp, udp, grpc, args, ttl, alias_service)"},
		{"two kinds", "service:\n  name: a\n  check: {tcp: 'a:1', ttl: 5s}\n", "f:3: a check cannot be both tcp and ttl (write two checks)"},
		{"status", "service:\n  name: a\n  check: {tcp: 'a:1', status: good}\n", `f:3: status cannot be "good" (passing, warning or critical)`},
		{"docker", "service:\n  name: a\n  check: {docker_container_id: x, args: [a]}\n", "f:3: docker_container_id is not supported"},
		{"address", "service: {name: a, address: 'fe80::1%eth0'}\n", `f:1: address cannot be "fe80::1%eth0" (an IP address or a host name)`},
		{"merge", "x: &x {name: a}\nservice: {<<: *x}\n", `f:1: file has no key "x"
f:2: merging by << is not supported (repeat the keys)
f:2: a service needs a name (name: web)`},
		{"a node's check without id", "checks: [{tcp: 'a:1'}]\n", "f:1: a check of the node needs an id or a name (id: disk)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tc.in))
			if err == nil {
				t.Fatal("no fault found")
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseBounds(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n"
	}
	bomb += "services: [{name: a, tags: *j}]\n"
	start := time.Now()
	if _, err := Parse("f", []byte(bomb)); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	times := func(n int, first, alias string) string { return "[" + first + strings.Repeat(", "+alias, n) + "]" }
	bomb = "services: " + times(1000, "&s {name: a, checks: "+times(1000, "&c {args: "+times(1000, "x", "x")+"}", "*c")+"}", "*s")
	start = time.Now()
	if _, err := Parse("f", []byte(bomb)); err == nil || !strings.Contains(err.Error(), "too much in one file") || time.Since(start) > 10*time.Second {
		t.Errorf("%.200v after %v", err, time.Since(start))
	}
	if _, err := Parse("f", make([]byte, MaxFile+1)); err == nil {
		t.Error("a file over the limit was taken")
	}
	if _, err := Parse("f", []byte(strings.Repeat("[", 100000))); err == nil {
		t.Error("a hundred thousand brackets were taken")
	}
}

// TestExamples reads what we ship.
func TestExamples(t *testing.T) {
	dir := filepath.Join("..", "..", "examples", "services.d")
	list, err := os.ReadDir(dir)
	if err != nil || len(list) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(e.Name(), data)
		if err != nil {
			t.Error(err)
		} else if len(f.Services)+len(f.Checks) == 0 || len(f.Notes) > 0 {
			t.Errorf("%s: %d services, notes %v", e.Name(), len(f.Services), f.Notes)
		}
	}
}

// TestDocs reads every YAML block of the pages about services and checks.
func TestDocs(t *testing.T) {
	for _, page := range []string{"services.d.md", "checks.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		blocks := 0
		for _, b := range strings.Split(string(text), "```yaml\n")[1:] {
			block, _, ok := strings.Cut(b, "```")
			if !ok {
				t.Fatalf("%s: a block has no end", page)
			}
			blocks++
			if f, err := Parse(page, []byte(block)); err != nil || len(f.Notes) > 0 {
				t.Errorf("%v\n%s", err, block)
			}
		}
		if blocks < 2 {
			t.Errorf("%s has %d blocks", page, blocks)
		}
		for _, key := range append(append([]string{}, serviceKeys...), checkKeys...) {
			if page == "services.d.md" && slices.Contains(serviceKeys, key) && !strings.Contains(string(text), key) {
				t.Errorf("%s says nothing of %s", page, key)
			}
			if page == "checks.md" && slices.Contains(checkKeys, key) && key != "check_id" && !strings.Contains(string(text), key) {
				t.Errorf("%s says nothing of %s", page, key)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"service: {name: a, check: {tcp: 'a:1'}}", `{"services": [{"name": "a", "checks": [{"ttl": "5s"}]}]}`,
		"services:\n- &a {name: a, meta: {x: *a}}\n", "checks: [{id: a, args: [x]}]", "a: &a [*a]\nservice: *a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse("f", data)
		if (got == nil) == (err == nil) {
			t.Fatalf("file %v, error %v", got, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		for _, s := range got.Services {
			if s.Instance.Service == "" || s.Instance.ID == "" || s.hash() == "" {
				t.Fatalf("service %+v", s.Instance)
			}
			for _, c := range s.Checks {
				if c.ID == "" || c.Definition.Kind == "" || c.InstanceID != s.Instance.ID {
					t.Fatalf("check %+v", c)
				}
			}
		}
	})
}
