package hostnet

import (
	"net/netip"
	"slices"
	"strconv"
)

// Listeners are the addresses on one port that something of ours listens on. The zero
// value holds none. It is immutable.
type Listeners struct {
	port  uint16 // 0: not known, so that nothing is ours
	every bool   // all addresses of the host
	addrs []netip.Addr
	host  *Follower
}

// NewListeners makes the set for a port and the hosts to bind, as they are written: an
// address without port; "", an unspecified address or what is no address stands for
// every address of the host, which f knows. A port that is no number from 1 to 65535
// gives the empty set.
func NewListeners(port string, hosts []string, f *Follower) Listeners {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Listeners{}
	}
	l := Listeners{port: uint16(n), host: f}
	for _, h := range hosts {
		a, err := netip.ParseAddr(h)
		if err != nil || a.IsUnspecified() {
			l.every = true
			continue
		}
		l.addrs = append(l.addrs, a.Unmap().WithZone(""))
	}
	return l
}

// Has says whether a packet to a would arrive at one of the listeners.
func (l Listeners) Has(a netip.AddrPort) bool {
	if l.port == 0 || a.Port() != l.port {
		return false
	}
	addr := a.Addr().Unmap().WithZone("")
	return slices.Contains(l.addrs, addr) || l.every && l.host != nil && l.host.Has(addr)
}
