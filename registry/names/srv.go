package names

import (
	"net/netip"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// srvScale turns our weights into SRV weights: HAProxy divides by 256 and rounds up, so
// that smaller factors would level the weights out.
const srvScale = 256

// srv answers SRV in the stable order of the instances, each with a target of its own
// and one address for it, IPv4 first. HAProxy links one address of ADDITIONAL to one
// SRV, and stops reading at the first thing there that it does not want.
func (m *maker) srv(service string, members []member) Answer {
	members = m.distinct(members)
	if m.full(len(members)) {
		members = members[:m.ask.Limit+1]
	}
	targets := m.targets(service, members)
	a := Answer{Status: Data}
	for n, i := range members {
		a.Answer = append(a.Answer, &dns.SRV{
			Hdr:      m.header(m.ask.Name, dns.TypeSRV),
			Priority: priority(i.Priority),
			Weight:   m.zone.srvWeight(i.weight),
			Port:     i.port,
			Target:   targets[n],
		})
		if i.at.any() {
			a.Additional = append(a.Additional, m.address(targets[n], i.at.first()))
		}
	}
	return a
}

// distinct leaves out, in a Consul zone, what Consul regards as the same: node,
// address and port.
func (m *maker) distinct(members []member) []member {
	if !m.zone.Consul {
		return members
	}
	type same struct {
		node string
		at   registry.Host
		port uint16
	}
	seen := make(map[same]bool, len(members))
	out := make([]member, 0, len(members))
	for _, i := range members {
		k := same{registry.Fold(i.Node), i.Addr(), i.port}
		if !seen[k] {
			seen[k] = true
			out = append(out, i)
		}
	}
	return out
}

// targets returns the target of each instance: the name of a host outside, else the
// instance's own name. A Consul zone keeps Consul's targets, the address or the node,
// where no other instance of the reply has the same.
func (m *maker) targets(service string, members []member) []string {
	targets := make([]string, len(members))
	var count map[string]int
	if m.zone.Consul {
		count = make(map[string]int, len(members))
	}
	for n, i := range members {
		switch {
		case i.at.name != "":
			targets[n] = dns.Fqdn(i.at.name)
		case m.zone.Consul:
			targets[n] = m.zone.consulTarget(i)
			count[targets[n]]++
		}
	}
	for n, i := range members {
		if i.at.name == "" && (targets[n] == "" || count[targets[n]] > 1) {
			targets[n] = m.zone.instanceName(service, i.InstanceState)
		}
	}
	return targets
}

// consulTarget returns the target that Consul would give, or "" where it has no name:
// `<hexip>.addr.<dc>` for an instance with an address, else `<node>.node.<dc>`.
func (z *Zone) consulTarget(i member) string {
	if own, ok := i.Address.Addr(); ok {
		// Such a name has one address.
		if i.at != (hosts{}).with(own) {
			return ""
		}
		return z.addrName(own)
	}
	if z.nodeName(i.Node) == "" || placeOfNode(i.Host) != i.at {
		return ""
	}
	name := registry.Fold(i.Node) + "." + wordNode + "." + z.Datacenter + "." + z.Origin
	if len(name) > room {
		return ""
	}
	return name
}

// addrName returns the name of an address in a Consul zone.
func (z *Zone) addrName(a netip.Addr) string {
	return HexLabel(a) + "." + wordAddr + "." + z.Datacenter + "." + z.Origin
}

// srvWeight returns the SRV weight for a weight of ours: scaled, in a Consul zone as
// it is.
func (z *Zone) srvWeight(w uint16) uint16 {
	if z.Consul {
		return w
	}
	return uint16(min(65535, srvScale*uint32(w)))
}

// priority returns the SRV priority; 1 where none was given, as in Consul.
func priority(p uint16) uint16 {
	if p == 0 {
		return 1
	}
	return p
}
