package names

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// hosts is where something is reached: an address of each family at most, or the name
// of a host outside the registry.
type hosts struct {
	v4, v6 netip.Addr
	name   string
}

// The networks that hold a host's address of the other family, as Consul names them.
const (
	networkIPv4 = "lan_ipv4"
	networkIPv6 = "lan_ipv6"
)

func (h hosts) with(a netip.Addr) hosts {
	switch a = a.Unmap().WithZone(""); {
	case a.Is4() && !h.v4.IsValid():
		h.v4 = a
	case a.Is6() && !h.v6.IsValid():
		h.v6 = a
	}
	return h
}

func (h hosts) withHost(o registry.Host) hosts {
	if a, ok := o.Addr(); ok {
		return h.with(a)
	}
	return h
}

// any reports whether there is an address.
func (h hosts) any() bool { return h.v4.IsValid() || h.v6.IsValid() }

// first returns the IPv4 address where there is one, else the IPv6 address.
func (h hosts) first() netip.Addr {
	if h.v4.IsValid() {
		return h.v4
	}
	return h.v6
}

// ofFamily returns the address that a query of type t asks for.
func (h hosts) ofType(t uint16) netip.Addr {
	if t == dns.TypeA {
		return h.v4
	}
	return h.v6
}

// placeOf returns where an instance is reached: at its own address, else at its node's,
// and at what the networks add for the family that is missing.
func placeOf(i *registry.InstanceState) hosts {
	at := i.Addr()
	if at.Name() != "" {
		return hosts{name: at.Name()}
	}
	h := hosts{}.withHost(at).withHost(i.Networks[networkIPv4].Address).withHost(i.Networks[networkIPv6].Address)
	if i.Address.IsZero() {
		h = h.withHost(i.Host.Networks[networkIPv4]).withHost(i.Host.Networks[networkIPv6])
	}
	return h
}

func placeOfNode(n *registry.Node) hosts {
	if n.Address.Name() != "" {
		return hosts{name: n.Address.Name()}
	}
	return hosts{}.withHost(n.Address).withHost(n.Networks[networkIPv4]).withHost(n.Networks[networkIPv6])
}

// isName reports whether s can be one or more labels of a name.
func isName(s string) bool {
	for l := range strings.SplitSeq(s, ".") {
		if !registry.IsLabel(l) {
			return false
		}
	}
	return true
}

// room is what names below a zone may add to its Origin in octets.
const room = 254

// instanceName returns the unique name of an instance.
func (z *Zone) instanceName(service string, i *registry.InstanceState) string {
	return i.Label + "." + registry.Fold(service) + "." + wordInstance + "." + z.Origin
}

// nodeName returns the name of a node, or "" where it has none.
func (z *Zone) nodeName(node string) string {
	if !isName(node) || len(node)+len(wordNode)+len(z.Origin)+2 > room {
		return ""
	}
	return registry.Fold(node) + "." + wordNode + "." + z.Origin
}
