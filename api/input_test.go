package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/resolverd/resolverd/api"
	"github.com/resolverd/resolverd/registry"
)

// TestBadInput: each fault gets its status, and a text that names the field.
func TestBadInput(t *testing.T) {
	const (
		service  = "/v1/agent/service/register"
		check    = "/v1/agent/check/register"
		register = "/v1/catalog/register"
	)
	with := func(s string) string { return `{"Name":"web",` + s + `}` }
	for _, c := range []struct {
		name, path, body string
		code             int
		want             []string // parts of the text
	}{
		{"port", service, with(`"Port":70000`), 400, []string{"Port: 70000", "0 to 65535"}},
		{"negative port", service, with(`"Port":-1`), 400, []string{"Port: -1"}},
		{"port as text", service, with(`"Port":"80"`), 400, []string{"Port: \"80\"", "number"}},
		{"port with a fraction", service, with(`"Port":80.5`), 400, []string{"Port: 80.5"}},
		{"several at once", service, `{"Port":70000,"Tags":"x","Weights":{"Passing":70000},"EnableTagOverride":1}`, 400,
			[]string{"Name: must not be empty", "Port: 70000", "Tags: \"x\"", "Weights.Passing: 70000", "EnableTagOverride: 1"}},
		{"no name", service, `{}`, 400, []string{"Name: must not be empty"}},
		{"name null", service, `{"Name":null}`, 400, []string{"Name"}},
		{"name as number", service, `{"Name":5}`, 400, []string{"Name: 5: must be a string"}},
		{"tag as number", service, with(`"Tags":["a",5]`), 400, []string{"Tags: must be a list of strings"}},
		{"meta value", service, with(`"Meta":{"a":5}`), 400, []string{"Meta.a: 5"}},
		{"meta list", service, with(`"Meta":["a"]`), 400, []string{"Meta: must be an object"}},
		{"address", service, with(`"Address":"10.0.0.1:80"`), 400, []string{"Address", "10.0.0.1:80"}},
		{"address with zone", service, with(`"Address":"fe80::1%eth0"`), 400, []string{"Address"}},
		{"tagged address", service, with(`"TaggedAddresses":{"wan":{"Address":"a b","Port":99999}}`), 400, []string{"TaggedAddresses.wan.Address", "TaggedAddresses.wan.Port: 99999"}},
		{"tagged address as text", service, with(`"TaggedAddresses":{"wan":"10.0.0.1"}`), 400, []string{"TaggedAddresses.wan"}},
		{"named port", service, with(`"Ports":[{"Name":"http","Port":0}]`), 400, []string{"Ports[0].Port"}},
		{"mesh", service, with(`"Kind":"connect-proxy"`), 400, []string{"Kind"}},
		{"socket", service, with(`"SocketPath":"/run/x"`), 400, []string{"SocketPath"}},
		{"check without a kind", service, with(`"Check":{"Interval":"5s"}`), 400, []string{"Check.Kind", "exactly one of HTTP"}},
		{"check of two kinds", service, with(`"Check":{"HTTP":"http://x/","TCP":"x:1"}`), 400, []string{"Check.Kind", "not HTTP and TCP"}},
		{"second check", service, with(`"Checks":[{"TTL":"5s"},{"HTTP":"nonsense"}]`), 400, []string{"Checks[1].HTTP"}},
		{"check no object", service, with(`"Checks":["x"]`), 400, []string{"Checks[0]: \"x\": must be an object"}},
		{"h2ping", service, with(`"Check":{"H2PING":"x:1"}`), 400, []string{"Check.H2PING", "not supported"}},
		{"docker", service, with(`"Check":{"DockerContainerID":"x","Args":["a"]}`), 400, []string{"Check.DockerContainerID", "services.d"}},
		{"script", service, with(`"Check":{"Args":["/bin/true"]}`), 403, []string{"Check.Args", "services.d", "checks.api_scripts"}},
		{"script, old name", check, `{"Name":"x","ScriptArgs":["/bin/true"]}`, 403, []string{"Args", "services.d"}},
		{"shell line", check, `{"Name":"x","Script":"true"}`, 400, []string{"Script", "Args"}},
		{"interval", service, with(`"Check":{"TCP":"x:1","Interval":"five"}`), 400, []string{"Check.Interval: \"five\""}},
		{"interval too short", service, with(`"Check":{"TCP":"x:1","Interval":"1ms"}`), 400, []string{"Check.Interval: 1ms", "100ms"}},
		{"negative interval", service, with(`"Check":{"TCP":"x:1","Interval":"-5s"}`), 400, []string{"Check.Interval"}},
		{"deregister after", service, with(`"Check":{"TCP":"x:1","DeregisterCriticalServiceAfter":"10ms"}`), 400, []string{"Check.DeregisterCriticalServiceAfter", "1s"}},
		{"ttl with interval", service, with(`"Check":{"TTL":"5s","Interval":"5s"}`), 400, []string{"Check.Interval"}},
		{"status", service, with(`"Check":{"TTL":"5s","Status":"fine"}`), 400, []string{"Check.Status: \"fine\""}},
		{"check without name", check, `{"TTL":"5s"}`, 400, []string{"Name: must not be empty"}},
		{"check of no service", check, `{"Name":"x","TTL":"5s","ServiceID":"none"}`, 404, []string{"none", "does not exist"}},
		{"no JSON", service, `{"Name": "web", "Port" 80}`, 400, []string{"offset 24", "invalid character '8'"}},
		{"half JSON", service, `{"Name": "web"`, 400, []string{"offset 14"}},
		{"two values", service, `{"Name":"web"} {"Name":"db"}`, 400, []string{"behind its JSON"}},
		{"empty", service, ``, 400, []string{"empty"}},
		{"list", service, `[]`, 400, []string{"object"}},
		{"too large", service, `{"Name":"web","x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, []string{"1048576"}},
		{"catalogue without node", register, `{"Address":"10.0.0.1"}`, 400, []string{"Node: must not be empty"}},
		{"catalogue without address", register, `{"Node":"new"}`, 400, []string{"Address"}},
		{"catalogue port", register, `{"Node":"new","Address":"10.0.0.1","Service":{"Service":"web","Port":70000}}`, 400, []string{"Service.Port: 70000"}},
		{"catalogue check", register, `{"Node":"new","Address":"10.0.0.1","Check":{"Status":"passing"}}`, 400, []string{"Check.CheckID"}},
		{"other datacenter", register, `{"Node":"new","Address":"10.0.0.1","Datacenter":"mars"}`, 500, []string{"No path to datacenter"}},
		{"deregister without node", "/v1/catalog/deregister", `{}`, 400, []string{"Node"}},
		{"deregister what is not there", "/v1/agent/service/deregister/none", ``, 404, []string{"Unknown service ID \"none\""}},
		{"deregister no check", "/v1/agent/check/deregister/none", ``, 404, []string{"Unknown check ID \"none\""}},
		{"pass no check", "/v1/agent/check/pass/none", ``, 404, []string{"Unknown check ID"}},
		{"pass a check that is run", "/v1/agent/check/pass/run", ``, 400, []string{"TTL", "tcp"}},
		{"update without status", "/v1/agent/check/update/run", `{}`, 400, []string{"Status"}},
		{"maintenance without enable", "/v1/agent/maintenance", ``, 400, []string{"Missing value for enable"}},
		{"maintenance of no service", "/v1/agent/service/maintenance/none?enable=true", ``, 404, []string{"none"}},
		{"enable", "/v1/agent/maintenance?enable=perhaps", ``, 400, []string{"enable: \"perhaps\""}},
		{"drain of no service", "/v1/resolverd/service/drain/none?enable=true", ``, 404, []string{"none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mustPut(service, `{"Name":"there","Checks":[{"CheckID":"run","TCP":"127.0.0.1:1"}]}`)
			before := b.store.Commits()
			a := b.put(c.path, c.body)
			if a.code != c.code {
				t.Errorf("status %d, want %d", a.code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(a.body, w) {
					t.Errorf("%q is not in: %s", w, a.body)
				}
			}
			if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
				t.Errorf("content type %q", ct)
			}
			if b.store.Commits() != before {
				t.Error("something was written")
			}
		})
	}
}

// TestAcceptedForms: what Consul takes, in each of the spellings that it takes.
func TestAcceptedForms(t *testing.T) {
	for name, body := range map[string]string{
		"go":     `{"Name":"web","Port":80,"EnableTagOverride":true,"TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":8}},"Check":{"CheckID":"c","HTTP":"http://x/","Interval":"10s","Timeout":"2s","TLSSkipVerify":true,"DeregisterCriticalServiceAfter":"90m","FailuresBeforeCritical":2,"Header":{"A":["b"]}}}`,
		"snake":  `{"name":"web","port":80,"enable_tag_override":true,"tagged_addresses":{"wan":{"address":"1.2.3.4","port":8}},"check":{"check_id":"c","http":"http://x/","interval":"10s","timeout":"2s","tls_skip_verify":true,"deregister_critical_service_after":"90m","failures_before_critical":2,"header":{"A":["b"]}}}`,
		"number": `{"NAME":"web","Port":80,"EnableTagOverride":true,"TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":8}},"Checks":[{"ID":"c","HTTP":"http://x/","Interval":10000000000,"Timeout":2e0,"TLSSkipVerify":true,"DeregisterCriticalServiceAfter":5400000000000,"FailuresBeforeCritical":2,"Header":{"A":"b"},"Unknown":[1]}],"Check":{},"Connect":null,"Also":{"unknown":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			body = strings.Replace(body, "2e0", "2000000000", 1)
			b.mustPut("/v1/agent/service/register", body)
			i := b.store.View.Load().Instance("n1", "web")
			if i == nil || i.Port != 80 || !i.EnableTagOverride || i.Networks["wan"].Port != 8 || i.Weights != registry.DefaultWeights || len(i.Checks) != 1 {
				t.Fatalf("instance: %+v", i)
			}
			d := i.Checks[0].Definition
			if i.Checks[0].ID != "c" || d.URL != "http://x/" || d.Interval.Std().Seconds() != 10 || d.Timeout.Std().Seconds() != 2 || !d.TLSSkipVerify || d.DeregisterCriticalAfter.Std().Minutes() != 90 || d.FailuresBeforeCritical != 2 || d.Header["A"][0] != "b" {
				t.Fatalf("check: %+v %+v", i.Checks[0], d)
			}
		})
	}
}

func TestKindsOfChecks(t *testing.T) {
	for body, want := range map[string]registry.CheckDefinition{
		`"TCP":"h:1","TCPUseTLS":true`:                    {Kind: registry.CheckTCP, Target: "h:1", TLS: true},
		`"UDP":"h:1"`:                                     {Kind: registry.CheckUDP, Target: "h:1"},
		`"GRPC":"h:1/svc","GRPCUseTLS":true`:              {Kind: registry.CheckGRPC, Target: "h:1/svc", TLS: true},
		`"AliasService":"db"`:                             {Kind: registry.CheckAlias, AliasInstance: "db"},
		`"AliasNode":"n2"`:                                {Kind: registry.CheckAlias, AliasNode: "n2"},
		`"HTTP":"https://h/","Method":"HEAD","Body":"x"`:  {Kind: registry.CheckHTTP, URL: "https://h/", Method: "HEAD", Body: "x"},
		`"Args":["/bin/x","y"],"WarningIsCritical":true`:  {Kind: registry.CheckScript, Args: []string{"/bin/x", "y"}, WarningIsCritical: true},
		`"script_args":["/bin/x"],"disable_redirects":1}`: {},
	} {
		if want.Kind == "" {
			continue
		}
		b := newBench(t, func(c *api.Config) { c.Token, c.AllowScripts = "secret", true })
		a := b.ask(http.MethodPut, "/v1/agent/check/register", `{"Name":"k",`+body+`}`, "X-Consul-Token: secret")
		if a.code != 200 {
			t.Errorf("%s: %d %s", body, a.code, a.body)
			continue
		}
		if got := b.cat.Check("n1", "k").Definition; fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %+v", body, *got)
		}
	}
}

func TestScriptsNeedATokenAndTheSwitch(t *testing.T) {
	const body = `{"Name":"k","Args":["/bin/true"]}`
	for name, c := range map[string]struct {
		token   string
		scripts bool
		code    int
	}{
		"neither": {"", false, 403}, "switch alone": {"", true, 403},
		"token alone": {"secret", false, 403}, "both": {"secret", true, 200},
	} {
		b := newBench(t, func(cfg *api.Config) { cfg.Token, cfg.AllowScripts = c.token, c.scripts })
		if a := b.ask(http.MethodPut, "/v1/agent/check/register", body, "X-Consul-Token: "+c.token); a.code != c.code {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

func TestRegistrationTwice(t *testing.T) {
	b := newBench(t)
	const body = `{"Name":"web","Port":80,"Check":{"TTL":"10s"}}`
	first := b.mustPut("/v1/agent/service/register?replace-existing-checks=true", body)
	b.mustPut("/v1/agent/check/pass/service:web?note=fine", "")
	second := b.mustPut("/v1/agent/service/register?replace-existing-checks=true", body)
	if first.header.Get("X-Resolverd-Changed") != "true" || second.header.Get("X-Resolverd-Changed") != "false" {
		t.Fatalf("changed: %q, then %q", first.header, second.header)
	}
	if k := b.cat.Check("n1", "service:web"); k.Status != registry.Passing || k.Output != "fine" {
		t.Fatalf("%+v", k)
	}
}

func TestBeat(t *testing.T) {
	var beats []string
	b := newBench(t, func(c *api.Config) { c.Beat = func(node, id string) { beats = append(beats, node+"/"+id) } })
	b.mustPut("/v1/agent/check/register", `{"Name":"k","TTL":"10s"}`)
	b.mustPut("/v1/agent/check/pass/k", "")
	b.mustPut("/v1/agent/check/pass/k", "")
	b.put("/v1/agent/check/pass/none", "")
	if got := strings.Join(beats, " "); got != "n1/k n1/k" {
		t.Fatalf("beats: %q", got)
	}
}

func TestIDsWithSlashes(t *testing.T) {
	b := newBench(t)
	b.mustPut("/v1/agent/service/register", `{"Name":"a/b","ID":"host:web:80/tcp"}`)
	if a := b.get("/v1/catalog/service/a%2Fb"); !strings.Contains(a.body, "host:web:80/tcp") {
		t.Fatal(a.body)
	}
	b.mustPut("/v1/agent/service/deregister/host:web:80/tcp", "")
}
