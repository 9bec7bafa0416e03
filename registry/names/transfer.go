package names

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// Transfer yields the zone's RRs as AXFR wants them (RFC 5936): the SOA first and last,
// one owner name after the other, sorted. glue are the addresses of `ns.Z`. What a name
// server cannot hold is left out: the SRV of a service that has a CNAME at the same name
// stays at `_<service>._tcp` only; of several external hosts the first is named; short
// names and reverse names are not of the zone. Random order and weights in A are lost.
func (z *Zone) Transfer(s *registry.Snapshot, glue []netip.Addr) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		t := transfer{z: z, s: s, yield: yield}
		soa := z.SOA(s)
		t.send([]dns.RR{soa})
		t.ask(Question{Kind: KindApex}, z.Origin, dns.TypeNS)
		if z.NS == "" {
			for _, a := range glue {
				t.name(Question{Kind: KindNS}, z.ns(), Query{Local: a}, dns.TypeA, dns.TypeAAAA)
			}
		}
		for _, svc := range slices.SortedFunc(s.Services(), func(a, b *registry.Service) int {
			return strings.Compare(registry.Fold(a.Name), registry.Fold(b.Name))
		}) {
			t.service(svc)
		}
		for _, n := range slices.SortedFunc(s.Nodes(), func(a, b *registry.NodeState) int {
			return strings.Compare(registry.Fold(a.Name), registry.Fold(b.Name))
		}) {
			if name := z.nodeName(n.Name); name != "" {
				t.ask(Question{Kind: KindNode, Name: registry.Fold(n.Name)}, name, dns.TypeA, dns.TypeAAAA, dns.TypeTXT)
			}
		}
		for _, r := range slices.SortedFunc(s.Roles(), func(a, b *registry.Role) int { return strings.Compare(a.Name, b.Name) }) {
			if registry.IsLabel(r.Name) {
				t.ask(Question{Kind: KindRole, Name: registry.Fold(r.Name)}, registry.Fold(r.Name)+"."+wordRole+"."+z.Origin,
					dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
			}
		}
		t.send([]dns.RR{soa})
	}
}

// transfer is one walk through a zone.
type transfer struct {
	z     *Zone
	s     *registry.Snapshot
	yield func([]dns.RR) bool
	done  bool
	sent  map[string]bool // names of addresses that were sent
}

func (t *transfer) send(rrs []dns.RR) {
	if !t.done && len(rrs) > 0 {
		t.done = !t.yield(rrs)
	}
}

// least is a Rand that keeps things in their order as far as it can.
type least struct{}

func (least) Float64() float64 { return 0 }

func (t *transfer) ask(q Question, owner string, types ...uint16) {
	t.name(q, owner, Query{}, types...)
}

// name sends the RRsets of one owner name. A CNAME stands alone (RFC 2181, 10.1).
func (t *transfer) name(q Question, owner string, ask Query, types ...uint16) {
	if t.done || len(owner) > room {
		return
	}
	var all []dns.RR
	for _, typ := range types {
		ask.Name, ask.Type, ask.Rand = owner, typ, least{}
		a := t.z.Answer(t.s, q, ask)
		if a.Status != Data {
			continue
		}
		if a.Answer[0].Header().Rrtype == dns.TypeCNAME {
			all = a.Answer[:1]
			break
		}
		all = append(all, a.Answer...)
		if typ == dns.TypeSRV {
			t.targets(a.Additional)
		}
	}
	t.send(all)
}

// targets sends the addresses of SRV targets that stand under "addr", which are no one's
// own names.
func (t *transfer) targets(rrs []dns.RR) {
	for _, rr := range rrs {
		owner := rr.Header().Name
		q, ok := t.z.Parse(owner)
		if !ok || t.sent[owner] || !t.z.Consul || q.Kind != KindAddr && q.Kind != KindNode {
			continue
		}
		if t.sent == nil {
			t.sent = map[string]bool{}
		}
		t.sent[owner] = true
		t.ask(q, owner, dns.TypeA, dns.TypeAAAA)
	}
}

func (t *transfer) service(svc *registry.Service) {
	if !registry.IsLabel(svc.Name) {
		return
	}
	name := registry.Fold(svc.Name)
	below := "." + wordService + "." + t.z.Origin
	tags, ports := map[string]bool{}, map[string]bool{}
	for _, i := range svc.Instances {
		for _, tag := range i.Tags {
			if isName(tag) && registry.Fold(tag) != tagTasks {
				tags[registry.Fold(tag)] = true
			}
		}
		for _, p := range i.Ports {
			if registry.IsLabel("_" + p.Name) {
				ports[registry.Fold(p.Name)] = true
			}
		}
	}
	t.ask(Question{Kind: KindService, Name: name}, name+below, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
	t.ask(Question{Kind: KindService, Name: name, RFC2782: true}, "_"+name+"._tcp"+below, dns.TypeSRV)
	for _, tag := range sorted(tags) {
		t.ask(Question{Kind: KindService, Name: name, Tag: tag}, tag+"."+name+below, dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
		if registry.IsLabel("_"+tag) && tag != "tcp" {
			t.ask(Question{Kind: KindService, Name: name, Tag: tag, RFC2782: true}, "_"+name+"._"+tag+below, dns.TypeSRV)
		}
	}
	for _, p := range sorted(ports) {
		if !t.z.Consul {
			t.ask(Question{Kind: KindService, Name: name, Port: p, RFC2782: true}, "_"+p+"._tcp."+name+below, dns.TypeSRV)
		}
	}
	for _, i := range svc.Instances {
		t.ask(Question{Kind: KindInstance, Name: name, Label: i.Label}, t.z.instanceName(svc.Name, i), dns.TypeA, dns.TypeAAAA, dns.TypeSRV)
	}
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
