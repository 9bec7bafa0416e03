package cache

import (
	"net/netip"
	"strconv"
)

// scoped is the bit of a key's first octet that says that a client's subnet follows the
// name: the family (1 or 2, as in RFC 7871, section 6), the prefix length, the address.
const scoped Flags = 0x80

// maxScope bounds the octets of the subnet in a key.
const maxScope = 2 + 16

// Scope is the clients that a response is for (RFC 7871): those with an address in
// Prefix, or, where that is not valid, those that asked for nobody's address to be used.
type Scope struct{ Prefix netip.Prefix }

// String returns the scope for people and for maps.
func (s Scope) String() string {
	if !s.Prefix.IsValid() {
		return "none"
	}
	return s.Prefix.Addr().String() + "/" + strconv.Itoa(s.Prefix.Bits())
}

// AppendScope makes key, which AppendKey made in that slice, the key of the same question
// for the clients of a scope. What is stored under it is not found without the scope.
func AppendScope(key []byte, s Scope) []byte {
	key[0] |= byte(scoped)
	if !s.Prefix.IsValid() {
		return append(key, 0, 0)
	}
	p := s.Prefix.Masked()
	a := p.Addr().AsSlice()
	family := byte(1)
	if p.Addr().Is6() {
		family = 2
	}
	key = append(key, family, byte(p.Bits()))
	return append(key, a[:(p.Bits()+7)/8]...)
}

// scopeOf returns the scope in a key, and whether it has one.
func scopeOf(key []byte) (s Scope, ok bool) {
	if len(key) == 0 || Flags(key[0])&scoped == 0 {
		return s, false
	}
	b := key[keyPrefix+len(keyName(key)):]
	if len(b) < 2 {
		return s, true
	}
	switch {
	case b[0] == 1 && len(b) <= 2+4:
		var a [4]byte
		copy(a[:], b[2:])
		s.Prefix = netip.PrefixFrom(netip.AddrFrom4(a), int(b[1]))
	case b[0] == 2 && len(b) <= 2+16:
		var a [16]byte
		copy(a[:], b[2:])
		s.Prefix = netip.PrefixFrom(netip.AddrFrom16(a), int(b[1]))
	}
	return s, true
}

// Scope returns whom the entry is for, and whether it is for some clients only.
func (e *Entry) Scope() (Scope, bool) { return scopeOf(e.key()) }
