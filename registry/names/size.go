package names

import (
	"sort"

	"github.com/miekg/dns"
)

// The sizes of responses in octets.
const (
	sizePlain   = 512   // UDP without EDNS (RFC 1035, section 4.2.1)
	sizeNetwork = 1232  // UDP off loopback: no fragment on any sane path
	sizeUDP     = 65507 // UDP on loopback, the most that IPv4 carries
	sizeStream  = dns.MaxMsgSize
)

// Limit returns how many octets a response may have: over a stream what its length
// field allows, over UDP what the client announced, within 1232 unless both ends are
// on this host.
func Limit(req *dns.Msg, stream, loopback bool) int {
	if stream {
		return sizeStream
	}
	size := sizePlain
	if opt := req.IsEdns0(); opt != nil {
		size = max(sizePlain, int(opt.UDPSize()))
	}
	if !loopback {
		return min(size, sizeNetwork)
	}
	return min(size, sizeUDP)
}

// MaxRRs returns how many RRs a response of that size cannot exceed: no RR of ours is
// shorter than a compressed owner name, the fixed part and an IPv4 address.
func MaxRRs(limit int) int { return limit / 16 }

// Fit cuts the response to limit octets, 512 at least: first ADDITIONAL from its end, so
// that the SRV before keep their addresses, then AUTHORITY, and only then ANSWER, which
// alone sets TC (RFC 2181, section 9). An OPT is kept and stays the last RR.
func Fit(m *dns.Msg, limit int) {
	m.Compress = true
	limit = max(limit, sizePlain)
	opt := takeOPT(m)
	fits := func() bool { return m.Len()+optLen(opt) <= limit }
	if !fits() {
		m.Extra = longest(m.Extra, func(part []dns.RR) bool { m.Extra = part; return fits() })
	}
	if !fits() {
		m.Ns = nil
	}
	if !fits() {
		m.Answer = longest(m.Answer, func(part []dns.RR) bool { m.Answer = part; return fits() })
		m.Truncated = true
	}
	if opt != nil {
		m.Extra = append(m.Extra, opt)
	}
}

// longest returns the longest beginning of rrs that fits.
func longest(rrs []dns.RR, fits func([]dns.RR) bool) []dns.RR {
	n := sort.Search(len(rrs)+1, func(n int) bool { return !fits(rrs[:n]) })
	return rrs[:max(0, n-1)]
}

func optLen(opt *dns.OPT) int {
	if opt == nil {
		return 0
	}
	return dns.Len(opt)
}

func takeOPT(m *dns.Msg) *dns.OPT {
	for i, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			m.Extra = append(m.Extra[:i:i], m.Extra[i+1:]...)
			return opt
		}
	}
	return nil
}
