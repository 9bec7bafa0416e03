package whole

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// startConsul runs a real Consul, DNS on 8600 and HTTP on 8500, and waits for its leader.
func startConsul(t testing.TB) (*process, *consul.Client) {
	t.Helper()
	config := write(t, t.TempDir()+"/consul.json", `{"telemetry":{"disable_hostname":true},"disable_update_check":true}`)
	p := spawn(t, peer(t, "consul"), "agent", "-dev", "-node", "n1", "-bind", "127.0.0.1", "-client", "127.0.0.1",
		"-config-file", config, "-log-level", "warn")
	c, err := consul.NewClient(&consul.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "Consul has a leader and its own service", func() error {
		s, _, err := c.Catalog().Service("consul", "", nil)
		if err == nil && len(s) == 0 {
			err = errNot
		}
		return err
	})
	return p, c
}

const consulCorefile = `
.:5300 {
    bind 127.0.0.1
    errors
    registry internal.
    cache 60
    consul
    forward . 127.0.0.1:5399
}
`

func TestConsulBehindUs(t *testing.T) {
	cp, c := startConsul(t)
	p := start(t, consulCorefile)
	if err := c.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db", ID: "db1", Address: "10.9.0.1", Port: 5432, Tags: []string{"primary"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, 5*time.Second, "db.service.consul", dns.TypeA, "NOERROR", "10.9.0.1")
	expect(t, time.Second, "primary.db.service.consul", dns.TypeA, "NOERROR", "10.9.0.1")
	expect(t, time.Second, "_db._tcp.service.consul", dns.TypeSRV, "NOERROR", "1 1 5432 0a090001.addr.dc1.consul.")
	expect(t, time.Second, "nothere.service.consul", dns.TypeA, "NXDOMAIN")

	// Consul's TTL is 0: nothing of it may stay behind a change.
	if err := c.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db", ID: "db1", Address: "10.9.0.2", Port: 5432}); err != nil {
		t.Fatal(err)
	}
	expect(t, time.Second, "db.service.consul", dns.TypeA, "NOERROR", "10.9.0.2")

	// Our own names do not go there, Consul's do not come here.
	p.register(t, nil)
	expect(t, 5*time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	expect(t, time.Second, "web.service.consul", dns.TypeA, "NXDOMAIN")

	// Consul stopped: SERVFAIL with the reason, and nobody else waits for it.
	if err := cp.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-cp.done
	q := query("db.service.consul", dns.TypeA)
	q.SetEdns0(1232, false)
	eventually(t, 10*time.Second, "SERVFAIL with an EDE while Consul is away", func() error {
		r, err := exchange("udp", q.Copy())
		if err != nil {
			return err
		}
		if r.Rcode != dns.RcodeServerFailure {
			return fmt.Errorf("RCODE %s", dns.RcodeToString[r.Rcode])
		}
		for _, e := range ede(r) {
			if strings.Contains(e.ExtraText, "8600") {
				return nil
			}
		}
		return fmt.Errorf("no EDE names Consul: %v", r)
	})
	began := time.Now()
	expect(t, time.Second, "web.service.internal", dns.TypeA, "NOERROR", "10.0.0.1")
	if d := time.Since(began); d > time.Second {
		t.Errorf("an internal name took %s while Consul was away", d)
	}
}
