package names_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
	"github.com/resolverd/resolverd/registry/names/scene"
	"pgregory.net/rapid"
)

// modelInstance is an instance as the naive model knows it.
type modelInstance struct {
	node, id, service string
	own, six          string // own address, network lan_ipv6; "" for none
	port              int
	weight            int
	status            string // of its check: "", passing, warning, critical, never
	drain             bool
	tag               string
}

type modelNode struct {
	name, addr string
	sick       bool
}

// model answers by looking at everything each time.
type model struct {
	nodes     []modelNode
	instances []modelInstance
}

func drawModel(t *rapid.T) model {
	var m model
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		addr := fmt.Sprintf("10.0.0.%d", i+1)
		if rapid.IntRange(0, 5).Draw(t, "six node") == 0 {
			addr = fmt.Sprintf("fd00::%d", i+1)
		}
		m.nodes = append(m.nodes, modelNode{fmt.Sprintf("n%d", i), addr, rapid.IntRange(0, 7).Draw(t, "sick") == 0})
	}
	for i := range rapid.IntRange(0, 25).Draw(t, "instances") {
		n := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node")]
		in := modelInstance{
			node: n.name, id: fmt.Sprintf("id%d", i),
			service: rapid.SampledFrom([]string{"web", "db"}).Draw(t, "service"),
			own:     rapid.SampledFrom([]string{"", "", "10.1.0.1", "10.1.0.2", "10.1.0.3", "fd01::1"}).Draw(t, "own"),
			six:     rapid.SampledFrom([]string{"", "", "", "fd02::1"}).Draw(t, "six"),
			port:    rapid.IntRange(1, 3).Draw(t, "port"),
			weight:  rapid.SampledFrom([]int{0, 1, 1, 10, 300, 65535}).Draw(t, "weight"),
			status:  rapid.SampledFrom([]string{"", "passing", "warning", "critical", "never"}).Draw(t, "status"),
			drain:   rapid.IntRange(0, 6).Draw(t, "drain") == 0,
			tag:     rapid.SampledFrom([]string{"", "prod", "v1.2"}).Draw(t, "tag"),
		}
		m.instances = append(m.instances, in)
	}
	return m
}

func (m model) lines() string {
	var b strings.Builder
	for _, n := range m.nodes {
		fmt.Fprintf(&b, "node %s %s\n", n.name, n.addr)
		if n.sick {
			fmt.Fprintf(&b, "check %s/disk - critical\n", n.name)
		}
	}
	for _, i := range m.instances {
		fmt.Fprintf(&b, "instance %s/%s %s [%s]:%d weight=%d/%d", i.node, i.id, i.service, i.own, i.port, i.weight, i.weight)
		if i.six != "" {
			fmt.Fprintf(&b, " network.lan_ipv6=%s", i.six)
		}
		if i.tag != "" {
			fmt.Fprintf(&b, " tags=%s", i.tag)
		}
		if i.drain {
			b.WriteString(" drain")
		}
		b.WriteString("\n")
		switch i.status {
		case "":
		case "never":
			fmt.Fprintf(&b, "check %s/c-%s %s critical never\n", i.node, i.id, i.id)
		default:
			fmt.Fprintf(&b, "check %s/c-%s %s %s\n", i.node, i.id, i.id, i.status)
		}
	}
	return b.String()
}

// addrs returns the addresses of an instance.
func (m model) addrs(i modelInstance) []string {
	first := i.own
	for _, n := range m.nodes {
		if first == "" && n.name == i.node {
			first = n.addr
		}
	}
	out := []string{first}
	if i.six != "" && !strings.Contains(first, ":") {
		out = append(out, i.six)
	}
	return out
}

// shown reports whether the instance is in SRV, and whether with a weight.
func (m model) shown(i modelInstance, tag string) (srv, weighs bool) {
	for _, n := range m.nodes {
		if n.name == i.node && n.sick {
			return false, false
		}
	}
	if i.status == "critical" || i.status == "never" || tag != "" && i.tag != tag {
		return false, false
	}
	return true, i.weight > 0 && !i.drain
}

// want returns what a query for a service gives: "nxdomain", or lines of RDATA, sorted.
func (m model) want(service, tag string, qtype uint16, consul bool) (lines []string, exists bool) {
	seen := map[string]bool{}
	for _, i := range m.instances {
		srv, weighs := m.shown(i, tag)
		if i.service != service || !srv {
			continue
		}
		exists = true
		addrs := m.addrs(i)
		if qtype == dns.TypeSRV {
			w := 0
			if weighs {
				w = min(65535, i.weight*256)
				if consul {
					w = i.weight
				}
			}
			same := fmt.Sprint(i.node, addrs[0], i.port)
			if consul && seen[same] {
				continue // which of the two, the weights tell; see check
			}
			seen[same] = true
			lines = append(lines, fmt.Sprintf("%d %d %s", w, i.port, strings.Join(addrs, "+")))
			continue
		}
		for _, a := range addrs {
			if weighs && !seen[a] && (qtype == dns.TypeAAAA) == strings.Contains(a, ":") {
				seen[a] = true
				lines = append(lines, a)
			}
		}
	}
	slices.Sort(lines)
	return lines, exists
}

// TestAgainstModel: what is answered is what looking at each instance gives; and every
// reply keeps the client's case and size, has unique targets, and each target resolves
// to that instance's addresses.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		slices.SortFunc(m.instances, func(a, b modelInstance) int {
			return cmp.Or(strings.Compare(a.node, b.node), strings.Compare(a.id, b.id))
		})
		s := scene.New(m.lines()).Load()
		for _, origin := range []string{"internal.", "consul."} {
			z, err := names.NewZone(origin)
			if err != nil {
				t.Fatal(err)
			}
			for _, service := range []string{"web", "db"} {
				for _, tag := range []string{"", "prod", "v1.2"} {
					checkService(t, z, m, s, service, tag)
				}
			}
		}
	})
}

func checkService(t *rapid.T, z *names.Zone, m model, s *registry.Snapshot, service, tag string) {
	name := service + ".service." + z.Origin
	if tag != "" {
		name = tag + "." + name
	}
	name = randomCase(t, name)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
		lines, exists := m.want(service, tag, qtype, z.Consul)
		what := fmt.Sprintf("%s %s\n%s", name, dns.TypeToString[qtype], m.lines())
		got := ask(t, z, s, name, qtype)
		if (got.Rcode == dns.RcodeNameError) == exists {
			t.Fatalf("%s: %s, want exists %v", what, dns.RcodeToString[got.Rcode], exists)
		}
		var have []string
		targets := map[string]bool{}
		for _, rr := range got.Answer {
			if rr.Header().Name != name {
				t.Fatalf("%s: owner %s", what, rr.Header().Name)
			}
			switch rr := rr.(type) {
			case *dns.A:
				have = append(have, rr.A.String())
			case *dns.AAAA:
				have = append(have, rr.AAAA.String())
			case *dns.SRV:
				if targets[rr.Target] {
					t.Fatalf("%s: target %s twice", what, rr.Target)
				}
				targets[rr.Target] = true
				have = append(have, fmt.Sprintf("%d %d %s", rr.Weight, rr.Port, strings.Join(resolve(t, z, s, rr.Target), "+")))
			}
		}
		slices.Sort(have)
		if diff := gocmp.Diff(lines, have); diff != "" {
			t.Fatalf("%s: %s", what, diff)
		}
		for n, rr := range got.Extra {
			srv := got.Answer[n].(*dns.SRV)
			if rr.Header().Name != srv.Target || !slices.Contains(resolve(t, z, s, srv.Target), addrOf(rr)) {
				t.Fatalf("%s: additional %v for %v", what, rr, srv)
			}
		}
		if size := rapid.IntRange(512, 1500).Draw(t, "size"); len(got.Answer) > 0 {
			reply(t, z, s, name, qtype, size, rapid.Bool().Draw(t, "opt")) // checks the size
		}
	}
}

func ask(t *rapid.T, z *names.Zone, s *registry.Snapshot, name string, qtype uint16) *dns.Msg {
	return reply(t, z, s, name, qtype, 65535, false)
}

// resolve returns the addresses of a target, IPv4 first.
func resolve(t *rapid.T, z *names.Zone, s *registry.Snapshot, target string) []string {
	var out []string
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range ask(t, z, s, target, qtype).Answer {
			out = append(out, addrOf(rr))
		}
	}
	return out
}

func addrOf(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return netip.AddrFrom16([16]byte(rr.AAAA)).String()
	}
	return "?"
}

func randomCase(t *rapid.T, name string) string {
	up := rapid.Uint64().Draw(t, "case")
	b := []byte(name)
	for i := range b {
		if up>>(i%64)&1 == 1 && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}
