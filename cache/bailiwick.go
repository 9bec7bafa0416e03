package cache

import "github.com/miekg/dns"

// prune drops from m what does not belong to the answer of its question, so that no
// upstream can place RRs of other zones in a packet that is repeated for hours (as
// MaginotDNS and CacheFlush did): in ANSWER it keeps the CNAME chain and its end, in
// AUTHORITY what the zones above those names say, in ADDITIONAL what lies at or below
// them and the addresses that the kept RRs refer to. m's slices are replaced, its RRs
// are not changed.
func prune(m *dns.Msg, a answered) {
	targets := map[string]bool{}
	m.Answer = keep(m.Answer, func(rr dns.RR) bool {
		owner := dns.CanonicalName(rr.Header().Name)
		if rr.Header().Rrtype == dns.TypeDNAME || covers(rr, dns.TypeDNAME) {
			return a.above(owner)
		}
		if !a.on(owner) {
			return false
		}
		refer(rr, targets)
		return true
	})
	zones := map[string]bool{}
	for _, rr := range m.Ns {
		owner := dns.CanonicalName(rr.Header().Name)
		switch rr := rr.(type) {
		case *dns.SOA, *dns.NS:
			zones[owner] = a.above(owner)
		case *dns.RRSIG:
			if z := dns.CanonicalName(rr.SignerName); a.above(z) {
				zones[z] = true
			}
		}
	}
	m.Ns = keep(m.Ns, func(rr dns.RR) bool {
		owner := dns.CanonicalName(rr.Header().Name)
		switch rr.(type) {
		case *dns.SOA, *dns.NS:
			if !a.above(owner) {
				return false
			}
			refer(rr, targets)
			return true
		}
		// Proofs (NSEC, NSEC3, DS and their signatures) lie beside the name, within the zone.
		for z, in := range zones {
			if in && inZone(owner, z) {
				return true
			}
		}
		return false
	})
	m.Extra = keep(m.Extra, func(rr dns.RR) bool {
		owner := dns.CanonicalName(rr.Header().Name)
		if inZone(owner, a.names[0]) && a.names[0] != "." {
			return true
		}
		if a.names[0] == "." && dns.CountLabel(owner) <= 1 {
			return true
		}
		return targets[owner]
	})
}

func keep(rrs []dns.RR, want func(dns.RR) bool) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if want(rr) {
			out = append(out, rr)
		}
	}
	return out
}

func covers(rr dns.RR, t uint16) bool {
	s, ok := rr.(*dns.RRSIG)
	return ok && s.TypeCovered == t
}

// refer adds the names whose addresses belong into ADDITIONAL beside rr.
func refer(rr dns.RR, targets map[string]bool) {
	name := ""
	switch rr := rr.(type) {
	case *dns.NS:
		name = rr.Ns
	case *dns.MX:
		name = rr.Mx
	case *dns.SRV:
		name = rr.Target
	case *dns.SVCB:
		name = rr.Target
	case *dns.HTTPS:
		name = rr.Target
	case *dns.NAPTR:
		name = rr.Replacement
	case *dns.PTR:
		name = rr.Ptr
	case *dns.KX:
		name = rr.Exchanger
	}
	if name == "." || name == "" {
		// An SVCB of "." means its owner (RFC 9460, section 2.5.2).
		name = rr.Header().Name
	}
	targets[dns.CanonicalName(name)] = true
}
