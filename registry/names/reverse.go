package names

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// maxPTR bounds the PTR RRs of an address.
const maxPTR = 16

// Reverse answers PTR for a registered address: the nodes that have it, else the
// instances that do (in a Consul zone their services). It is NotOurs where nobody has
// the address, and for other types, so that a real reverse zone is not shadowed. The
// answer rests on View.Addrs.
func (z *Zone) Reverse(s *registry.Snapshot, a netip.Addr, ask Query) Answer {
	if ask.Type != dns.TypePTR && ask.Type != dns.TypeANY {
		return Answer{Status: NotOurs}
	}
	m := maker{zone: z, snap: s, ask: ask, ttl: z.TTL.For("")}
	out := Answer{Status: NotOurs}
	for _, target := range z.pointers(s.Uses(a)) {
		out.Status = Data
		out.Answer = append(out.Answer, &dns.PTR{Hdr: m.header(ask.Name, dns.TypePTR), Ptr: target})
	}
	return out
}

func (z *Zone) pointers(uses []registry.AddrUse) []string {
	var nodes, services []string
	centre := "."
	if z.Consul {
		centre = "." + z.Datacenter + "." // as Consul writes it
	}
	for _, u := range uses {
		switch {
		case u.Service == "":
			if isName(u.Node) {
				nodes = append(nodes, registry.Fold(u.Node)+"."+wordNode+centre+z.Origin)
			}
		case !registry.IsLabel(u.Service):
		case z.Consul:
			services = append(services, registry.Fold(u.Service)+"."+wordService+centre+z.Origin)
		default:
			services = append(services, u.Label+"."+registry.Fold(u.Service)+"."+wordInstance+"."+z.Origin)
		}
	}
	if len(nodes) == 0 {
		nodes = services
	}
	slices.Sort(nodes)
	nodes = slices.DeleteFunc(slices.Compact(nodes), func(name string) bool { return len(name) > room })
	return nodes[:min(len(nodes), maxPTR)]
}
