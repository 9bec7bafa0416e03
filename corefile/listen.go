package corefile

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// listen is one zone of a block with where it is served.
type listen struct {
	transport string
	zone      string // canonical
	port      uint16
}

// listens returns the block's zones with their ports, as dnsserver reads the keys; a
// key that it would refuse is left out.
func (b *Block) listens() []listen {
	var ks []listen
	for _, key := range b.Keys {
		tr, rest := parse.Transport(key)
		zones, port, err := plugin.SplitHostPort(rest)
		if err != nil {
			continue
		}
		if port == "" {
			switch tr {
			case transport.TLS:
				port = transport.TLSPort
			case transport.QUIC:
				port = transport.QUICPort
			case transport.GRPC:
				port = transport.GRPCPort
			case transport.HTTPS, transport.HTTPS3:
				port = transport.HTTPSPort
			default:
				port = dnsserver.Port
			}
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		for _, z := range zones {
			ks = append(ks, listen{transport: tr, zone: plugin.Name(z).Normalize(), port: uint16(n)})
		}
	}
	return ks
}

// hosts returns the addresses that the block binds; the unspecified IPv6 address
// stands for all of both families. Interface names are looked up now.
func (b *Block) hosts() []netip.Addr {
	var hosts, except []netip.Addr
	bound := false
	for _, u := range b.uses {
		if u.name != "bind" {
			continue
		}
		bound = true
		to := &hosts
		for i, t := range u.tokens {
			switch {
			case i == 0 || t.Text == "{" || t.Text == "}":
			case t.Text == "except":
				to = &except
			default:
				*to = append(*to, addresses(t.Text)...)
			}
		}
	}
	if !bound {
		return []netip.Addr{netip.IPv6Unspecified()}
	}
	return slices.DeleteFunc(hosts, func(a netip.Addr) bool { return slices.Contains(except, a) })
}

// addresses returns the address that s is, or those of the interface of that name.
func addresses(s string) []netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ifc, err := net.InterfaceByName(s)
	if err != nil {
		return nil
	}
	as, err := ifc.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range as {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addr := p.Addr().Unmap()
			if addr.Is6() && (addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast()) {
				addr = addr.WithZone(ifc.Name)
			}
			out = append(out, addr)
		}
	}
	return out
}

// Listeners returns the addresses and ports that the Corefile asks for, each once. An
// unspecified address stands for every address of the host, of both families; port 0
// for one that the system chooses.
func (l *Loaded) Listeners() []netip.AddrPort {
	var out []netip.AddrPort
	for i := range l.Blocks {
		b := &l.Blocks[i]
		hosts := b.hosts()
		for _, k := range b.listens() {
			for _, h := range hosts {
				if ap := netip.AddrPortFrom(h, k.port); !slices.Contains(out, ap) {
					out = append(out, ap)
				}
			}
		}
	}
	return out
}

// bindable says whether this host has the address.
func bindable(a netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}
