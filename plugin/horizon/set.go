package horizon

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxName bounds the octets of a horizon's name; it is a metric label.
const maxName = 63

// Set is a horizon: a name and the clients that it means. It is immutable once the
// Corefile is read.
type Set struct {
	Name     string
	Prefixes []netip.Prefix // masked; IPv4 as IPv4; at least one
	place    string         // file:line of the definition
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) < 0
}

// ParsePrefix reads a prefix or an address, which stands for itself alone. An
// IPv4-mapped one becomes IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q: a client's interface is not looked at, leave out %%%s", s, a.Zone())
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8 or fd00::/8", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q reaches beyond the IPv4-mapped addresses: write IPv4 prefixes as IPv4", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits set behind its length: did you mean %s?", s, m)
	}
	return p, nil
}
