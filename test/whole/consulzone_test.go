package whole

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// TestConsulZoneAnswersAsConsul registers the same services with us and with a real Consul
// and asks both the same questions. Compared are RCODE, the set of answers without TTL, and
// the addresses in ADDITIONAL. What we answer otherwise on purpose (docs/names.md) is left out.
func TestConsulZoneAnswersAsConsul(t *testing.T) {
	_, c := startConsul(t)
	p := start(t, `
.:5300 {
    bind 127.0.0.1
    errors
    registry consul.
}
`)
	entries := []*consul.AgentServiceRegistration{
		{Name: "web", ID: "w1", Address: "10.0.0.1", Port: 80, Tags: []string{"v1", "primary"}, Weights: &consul.AgentWeights{Passing: 5, Warning: 2}},
		{Name: "web", ID: "w2", Address: "10.0.0.2", Port: 81, Tags: []string{"v2"}, Check: ttl("w2", "warning")},
		{Name: "web", ID: "w3", Address: "10.0.0.3", Port: 82, Tags: []string{"v2"}, Check: ttl("w3", "critical")},
		{Name: "six", ID: "s1", Address: "2001:db8::1", Port: 66},
		{Name: "bare", ID: "b1", Port: 7000},
		{Name: "Mixed", ID: "m1", Address: "10.0.0.9", Port: 9, Tags: []string{"Tag.With.Dots", "udp"}},
		{Name: "dead", ID: "d1", Address: "10.0.0.8", Port: 8, Check: ttl("d1", "critical")},
		{Name: "under_score", ID: "u1", Address: "10.0.0.7", Port: 7},
		{Name: "external", ID: "e1", Address: "www.example.org", Port: 443},
	}
	for _, e := range entries {
		for _, api := range []*consul.Client{c, p.api} {
			r := *e
			if err := api.Agent().ServiceRegister(&r); err != nil {
				t.Fatalf("%s: %v", e.ID, err)
			}
		}
	}
	questions := []struct {
		name  string
		types []uint16
	}{
		{name: "web.service.consul", types: []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeMX}},
		{name: "WEB.Service.CONSUL", types: []uint16{dns.TypeA, dns.TypeSRV}},
		{name: "web.service.dc1.consul", types: []uint16{dns.TypeA, dns.TypeSRV}},
		{name: "web.service.dc9.consul", types: []uint16{dns.TypeA}},
		{name: "v1.web.service.consul", types: []uint16{dns.TypeA, dns.TypeSRV}},
		{name: "v2.web.service.consul", types: []uint16{dns.TypeA}},
		{name: "v9.web.service.consul", types: []uint16{dns.TypeA}},
		{name: "tag.with.dots.mixed.service.consul", types: []uint16{dns.TypeA}},
		{name: "_web._tcp.service.consul", types: []uint16{dns.TypeSRV, dns.TypeA}},
		{name: "_web._v1.service.consul", types: []uint16{dns.TypeSRV}},
		{name: "_mixed._udp.service.consul", types: []uint16{dns.TypeSRV}},
		{name: "_web._tcp.consul", types: []uint16{dns.TypeSRV}},
		{name: "six.service.consul", types: []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV}},
		{name: "bare.service.consul", types: []uint16{dns.TypeA, dns.TypeAAAA}},
		{name: "dead.service.consul", types: []uint16{dns.TypeA, dns.TypeSRV}},
		{name: "under_score.service.consul", types: []uint16{dns.TypeA}},
		{name: "nothere.service.consul", types: []uint16{dns.TypeA, dns.TypeSRV}},
		{name: "n1.node.consul", types: []uint16{dns.TypeA}},
		{name: "n1.node.dc1.consul", types: []uint16{dns.TypeA}},
		{name: "n9.node.consul", types: []uint16{dns.TypeA}},
		{name: "0a000001.addr.consul", types: []uint16{dns.TypeA}},
		{name: "20010db8000000000000000000000001.addr.dc1.consul", types: []uint16{dns.TypeAAAA}},
		{name: "zz000001.addr.consul", types: []uint16{dns.TypeA}},
		{name: "nothing.consul", types: []uint16{dns.TypeA}},
		{name: "a.b.c.consul", types: []uint16{dns.TypeA}},
	}
	eventually(t, 10*time.Second, "both know the last service", func() error {
		for _, at := range []string{listen, "127.0.0.1:8600"} {
			r, err := exchangeAt("udp", at, "", query("under_score.service.consul", dns.TypeA))
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			if len(r.Answer) != 1 {
				return fmt.Errorf("%s: %v", at, r)
			}
		}
		return nil
	})
	for _, q := range questions {
		for _, qtype := range q.types {
			m := query(q.name, qtype)
			m.SetEdns0(4096, false)
			theirs, err := exchangeAt("udp", "127.0.0.1:8600", "", m.Copy())
			if err != nil {
				t.Fatal(err)
			}
			ours, err := exchangeAt("udp", listen, "", m.Copy())
			if err != nil {
				t.Fatal(err)
			}
			if a, b := gist(theirs), gist(ours); a != b {
				t.Errorf("%s %s:\nConsul: %s\nours:   %s", q.name, dns.TypeToString[qtype], a, b)
			}
		}
	}
}

func ttl(id, status string) *consul.AgentServiceCheck {
	return &consul.AgentServiceCheck{CheckID: "check-" + id, TTL: "10m", Status: status}
}

// gist is what of a response is compared: RCODE, AA, the set of answers and of additional
// addresses, without TTL and case.
func gist(r *dns.Msg) string {
	lines := func(rrs []dns.RR, only ...uint16) string {
		var out []string
		for _, rr := range rrs {
			h := rr.Header()
			if len(only) > 0 && !slices.Contains(only, h.Rrtype) {
				continue
			}
			out = append(out, strings.ToLower(fmt.Sprint(h.Name, " ", dns.TypeToString[h.Rrtype], " ", strings.TrimPrefix(rr.String(), h.String()))))
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	}
	return fmt.Sprintf("%s aa=%v [%s] [%s]", dns.RcodeToString[r.Rcode], r.Authoritative, lines(r.Answer), lines(r.Extra, dns.TypeA, dns.TypeAAAA))
}
