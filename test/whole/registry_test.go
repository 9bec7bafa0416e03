package whole

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

const plainCorefile = `
.:5300 {
    bind 127.0.0.1
    errors
    registry internal.
    cache 60
    forward . 127.0.0.1:5399
}
`

func TestRegisterResolveDeregister(t *testing.T) {
	p := start(t, plainCorefile)
	p.register(t, func(r *consul.AgentServiceRegistration) {
		r.Tags = []string{"v1"}
		r.Weights = &consul.AgentWeights{Passing: 3, Warning: 1}
	})
	p.register(t, func(r *consul.AgentServiceRegistration) { r.ID, r.Address, r.Port = "web-2", "10.0.0.2", 8081 })
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1", "10.0.0.2")
	expect(t, time.Second, "v1.web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	expect(t, time.Second, "WeB.SeRvIcE.InTeRnAl", dns.TypeA, "NOERROR", "10.0.0.1", "10.0.0.2")
	expect(t, time.Second, "web.service.internal", dns.TypeAAAA, "NOERROR")
	expect(t, time.Second, "nothing.service.internal", dns.TypeA, "NXDOMAIN")
	expect(t, time.Second, "n1.node.internal", dns.TypeA, "NOERROR", "127.0.0.1")
	expect(t, time.Second, "0a000001.addr.internal", dns.TypeA, "NOERROR", "10.0.0.1")

	r, err := exchange("udp", query("_web._tcp.service.internal", dns.TypeSRV))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) != 2 || len(r.Extra) != 2 {
		t.Fatalf("SRV: %v", r)
	}
	for _, rr := range r.Answer {
		s := rr.(*dns.SRV)
		want := uint16(256)
		if s.Port == 8080 {
			want = 3 * 256
		}
		if s.Weight != want {
			t.Errorf("weight %d for port %d, want %d", s.Weight, s.Port, want)
		}
		if rcode, a := ask(t, s.Target, dns.TypeA); rcode != "NOERROR" || len(a) != 1 {
			t.Errorf("target %s resolves to %s %v", s.Target, rcode, a)
		}
	}

	if err := p.api.Agent().ServiceDeregister("web-1"); err != nil {
		t.Fatal(err)
	}
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.2")
}

func TestChecksDecide(t *testing.T) {
	p := start(t, plainCorefile)
	var status atomic.Int32
	status.Store(200)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer target.Close()
	p.register(t, func(r *consul.AgentServiceRegistration) {
		r.Check = &consul.AgentServiceCheck{HTTP: target.URL, Interval: "200ms", Timeout: "1s", FailuresBeforeCritical: 1}
	})
	expect(t, 5*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	status.Store(500)
	expect(t, 5*time.Second, "web.service.internal", dns.TypeA, "NXDOMAIN")
	status.Store(200)
	expect(t, 5*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	out := p.cli(t, "history", "--json")
	for _, want := range []string{"critical", "passing", "register"} {
		if !strings.Contains(out, want) {
			t.Errorf("history has no %q:\n%s", want, out)
		}
	}
}

// TestAgentKilled: the agent's death stops no answer, it is started again, and what was
// acknowledged is there.
func TestAgentKilled(t *testing.T) {
	p := start(t, plainCorefile)
	p.register(t, nil)
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	agent := p.child(t, "agent")
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(3 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		if rcode, a := ask(t, "web.service.internal", dns.TypeA); rcode != "NOERROR" || len(a) != 1 {
			t.Fatalf("query %d after the agent's death: %s %v", n, rcode, a)
		}
	}
	p.waitAPI(t)
	p.register(t, func(r *consul.AgentServiceRegistration) { r.ID, r.Address = "web-2", "10.0.0.2" })
	expect(t, 5*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1", "10.0.0.2")
	if now := p.child(t, "agent"); now == agent {
		t.Error("the agent has the pid of the one that was killed")
	}
}

// TestAllKilled: after kill -9 of everything, registrations are there and names resolve
// before the agent is up.
func TestAllKilled(t *testing.T) {
	dir := shortDir(t)
	p := startIn(t, dir, plainCorefile)
	for i := range 20 {
		p.register(t, func(r *consul.AgentServiceRegistration) {
			r.ID, r.Address = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.1.%d", i+1)
		})
	}
	eventually(t, 5*time.Second, "all twenty are answered", func() error {
		if _, a := ask(t, "web.service.internal", dns.TypeA); len(a) != 20 {
			return fmt.Errorf("%d answers", len(a))
		}
		return nil
	})
	eventually(t, 5*time.Second, "the view on disk has the last of them", func() error {
		b, err := os.ReadFile(filepath.Join(p.data, "answerer", "view"))
		if err == nil && !bytes.Contains(b, []byte("web-19")) {
			err = errNot
		}
		return err
	})
	for _, pid := range []int{p.Process.Pid, p.child(t, "agent"), p.child(t, "answer")} {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	p = startIn(t, dir, plainCorefile)
	if _, a := ask(t, "web.service.internal", dns.TypeA); len(a) != 20 {
		t.Fatalf("%d answers after the restart, want 20", len(a))
	}
	s, _, err := p.api.Catalog().Service("web", "", nil)
	if err != nil || len(s) != 20 {
		t.Fatalf("the catalogue has %d instances after the restart: %v", len(s), err)
	}
}

func TestServicesDirectory(t *testing.T) {
	dir := t.TempDir()
	p := start(t, plainCorefile, "services_dir: "+dir)
	file := write(t, filepath.Join(dir, "api.json"), `{"service": {"name": "api", "port": 9000, "address": "10.2.0.1", "tags": ["blue"]}}`)
	expect(t, 10*time.Second, "blue.api.service.internal", dns.TypeA, "NOERROR", "10.2.0.1")
	write(t, file, `{"service": {"name": "api", "port": 9000, "address": "10.2.0.2", "tags": ["blue"]}}`)
	expect(t, 10*time.Second, "api.service.internal", dns.TypeA, "NOERROR", "10.2.0.2")

	// Deregistered elsewhere is final until the file changes.
	p.cli(t, "service", "deregister", "api")
	expect(t, 5*time.Second, "api.service.internal", dns.TypeA, "NXDOMAIN")
	write(t, filepath.Join(dir, "other.yaml"), "service: {name: other, port: 1, address: 10.2.0.9}\n")
	expect(t, 10*time.Second, "other.service.internal", dns.TypeA, "NOERROR", "10.2.0.9")
	expect(t, time.Second, "api.service.internal", dns.TypeA, "NXDOMAIN")
	write(t, file, `{"service": {"name": "api", "port": 9001, "address": "10.2.0.2", "tags": ["blue"]}}`)
	expect(t, 10*time.Second, "api.service.internal", dns.TypeA, "NOERROR", "10.2.0.2")

	write(t, file, `{"service": {"name": "api", "port": `)
	eventually(t, 10*time.Second, "the broken file is named with its line", func() error {
		if !strings.Contains(p.out.String(), "api.json:1") {
			return errNot
		}
		return nil
	})
	expect(t, time.Second, "api.service.internal", dns.TypeA, "NOERROR", "10.2.0.2")
	must(t, "rm", file)
	expect(t, 10*time.Second, "api.service.internal", dns.TypeA, "NXDOMAIN")
}

func TestTransfer(t *testing.T) {
	p := start(t, strings.Replace(plainCorefile, "cache 60", "transfer {\n to *\n }\n cache 60", 1))
	p.register(t, nil)
	expect(t, 2*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	out := must(t, peer(t, "dig"), "@127.0.0.1", "-p", "5300", "internal.", "AXFR", "+noall", "+answer")
	for _, want := range []string{"SOA", "web.service.internal.", "10.0.0.1", "_web._tcp.service.internal.", "n1.node.internal."} {
		if !strings.Contains(out, want) {
			t.Errorf("the transfer has no %q:\n%s", want, out)
		}
	}
}

// child returns the pid of the supervisor's child that runs a subcommand.
func (p *program) child(t testing.TB, subcommand string) int {
	t.Helper()
	var pid int
	eventually(t, 10*time.Second, "a child runs "+subcommand, func() error {
		out, err := run(t.Context(), "pgrep", "-P", fmt.Sprint(p.Process.Pid), "-f", "resolverd.* "+subcommand)
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(out, &pid)
		return err
	})
	return pid
}
