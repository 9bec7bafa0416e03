package registry

import (
	"fmt"
	"net/netip"
)

// Host is where something is reached: an address, or the name of a host outside the
// registry (Consul's external services), which is answered as a CNAME. The zero Host is
// "none given".
type Host struct {
	addr netip.Addr
	name string
}

// ParseHost makes a Host of what a registration says: an IPv4 or IPv6 literal without
// zone, or a name of 1 to 253 octets. The empty string is the zero Host.
func ParseHost(s string) (Host, error) {
	if s == "" {
		return Host{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return Host{}, fmt.Errorf("registry: address %q has a zone, which means nothing on another host", s)
		}
		return Host{addr: a.Unmap()}, nil
	}
	if !validHostName(s) {
		return Host{}, fmt.Errorf("registry: %q is neither an IP address nor a host name", s)
	}
	return Host{name: s}, nil
}

// HostOf returns the Host with this address.
func HostOf(a netip.Addr) Host { return Host{addr: a.Unmap()} }

// Addr returns the address, and false where the Host is a name or none.
func (h Host) Addr() (netip.Addr, bool) { return h.addr, h.addr.IsValid() }

// Name returns the host name without the final dot, or "" where the Host is an address.
func (h Host) Name() string { return h.name }

// IsZero reports whether no host was given.
func (h Host) IsZero() bool { return h == Host{} }

func (h Host) String() string {
	if h.addr.IsValid() {
		return h.addr.String()
	}
	return h.name
}

// MarshalText makes a Host a string in JSON.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHost.
func (h *Host) UnmarshalText(b []byte) error {
	v, err := ParseHost(string(b))
	if err == nil {
		*h = v
	}
	return err
}

// validHostName accepts what resolvers accept as a host name: labels of letters,
// digits, hyphen and underscore, 1 to 63 octets each, 253 in all (RFC 1035, 2.3.4).
func validHostName(s string) bool {
	if len(s) > 1 && s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if !IsLabel(s[start:i]) {
				return false
			}
			start = i + 1
		}
	}
	return true
}
