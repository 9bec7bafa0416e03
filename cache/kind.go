package cache

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Kind is what a response says about its question.
type Kind uint8

const (
	// Uncacheable is what must be asked again: truncated, malformed, another's answer, a
	// denial without the SOA that bounds it, an RCODE that says nothing about the name.
	Uncacheable Kind = iota
	// Success answers the question, or is a NOERROR response with nothing but additional
	// data, as CoreDNS's whoami gives.
	Success
	// Delegation names the zone's name servers instead of answering.
	Delegation
	// Nodata says that the name has no RRset of the type (RFC 2308, section 2.2).
	Nodata
	// Nxdomain says that the name does not exist (RFC 2308, section 2.1).
	Nxdomain
	// Failure is SERVFAIL or NOTIMP (RFC 2308, section 7.1).
	Failure
)

var kindNames = [...]string{"uncacheable", "success", "delegation", "nodata", "nxdomain", "failure"}

// String returns the kind's name in lower case.
func (k Kind) String() string { return kindNames[k] }

// Denial says whether the kind is counted and bounded with the denials, as the stock
// directive does: what is not Success or Delegation.
func (k Kind) Denial() bool { return k >= Nodata }

// maxChain bounds the CNAMEs that are followed within one response.
const maxChain = 32

// answered is what a response says about its question, seen along its CNAME chain.
type answered struct {
	names []string // owner names from QNAME to the chain's end, lower case
	full  bool     // an RR of QTYPE is at the end
	sound bool     // neither a loop nor an alias with two targets (RFC 2181, section 10.1)
}

func (a answered) end() string { return a.names[len(a.names)-1] }

func (a answered) on(name string) bool {
	for _, n := range a.names {
		if n == name {
			return true
		}
	}
	return false
}

// above says whether zone is an ancestor of a name of the chain, or the name itself.
func (a answered) above(zone string) bool {
	for _, n := range a.names {
		if inZone(n, zone) {
			return true
		}
	}
	return false
}

// inZone says whether name is zone or below it; both are canonical.
func inZone(name, zone string) bool {
	if zone == "." || name == zone {
		return true
	}
	return strings.HasSuffix(name, "."+zone) && dns.IsSubDomain(zone, name)
}

// follow walks the chain of m from QNAME. The order of the RRs does not matter.
func follow(m *dns.Msg) answered {
	q := m.Question[0]
	name := dns.CanonicalName(q.Name)
	a := answered{names: []string{name}, sound: true}
	alias := map[string]string{}
	has := map[string]bool{}
	for _, rr := range m.Answer {
		h := rr.Header()
		if q.Qclass != dns.ClassANY && h.Class != q.Qclass {
			continue
		}
		owner := dns.CanonicalName(h.Name)
		if h.Rrtype == q.Qtype || q.Qtype == dns.TypeANY {
			has[owner] = true
		}
		if c, ok := rr.(*dns.CNAME); ok {
			target := dns.CanonicalName(c.Target)
			if t, ok := alias[owner]; ok && t != target {
				alias[owner] = "" // two targets
				continue
			}
			alias[owner] = target
		}
	}
	if q.Qtype == dns.TypeANY {
		a.full = has[name]
		return a
	}
	if q.Qtype == dns.TypeCNAME {
		t, ok := alias[name]
		a.sound = !ok || t != ""
		a.full = ok && a.sound
		return a
	}
	for {
		t, ok := alias[name]
		if !ok {
			a.full = has[name]
			return a
		}
		if t == "" || len(a.names) >= maxChain || a.on(t) {
			a.sound = false
			return a
		}
		name = t
		a.names = append(a.names, name)
	}
}

// soa returns the SOA of the zone that denies, or nil: one whose owner is the end of the
// chain or above it. Another zone's SOA bounds nothing.
func soa(m *dns.Msg, a answered) *dns.SOA {
	for _, rr := range m.Ns {
		if s, ok := rr.(*dns.SOA); ok && inZone(a.end(), dns.CanonicalName(s.Hdr.Name)) {
			return s
		}
	}
	return nil
}

// Classify says what m, a response to a query with or without the DO bit, is, and whether
// it holds an RRset of the asked type. m is not changed.
func Classify(m *dns.Msg, do bool, wall time.Time) (k Kind, answers bool) {
	k, a := classify(m, do, wall)
	return k, m.Rcode == dns.RcodeSuccess && a.full && a.sound
}

// classify decides what m is. do says that the query had the DO bit: then a signature
// that is not valid at wall makes the response uncacheable (RFC 4035, section 4.6).
func classify(m *dns.Msg, do bool, wall time.Time) (Kind, answered) {
	if !m.Response || m.Truncated || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 || MetaType(m.Question[0].Qtype) {
		return Uncacheable, answered{}
	}
	a := follow(m)
	if do && expiredSignature(m, wall) {
		return Uncacheable, a
	}
	switch m.Rcode {
	case dns.RcodeServerFailure, dns.RcodeNotImplemented:
		return Failure, a
	case dns.RcodeNameError:
		// With a CNAME in ANSWER it is the chain's end that does not exist (RFC 6604).
		if !a.sound || a.full || soa(m, a) == nil || (len(m.Answer) > 0 && len(a.names) == 1) {
			return Uncacheable, a
		}
		return Nxdomain, a
	case dns.RcodeSuccess:
	default:
		return Uncacheable, a
	}
	switch {
	case a.full && a.sound:
		return Success, a
	case !a.sound:
		return Uncacheable, a
	case soa(m, a) != nil:
		return Nodata, a
	case len(m.Answer) > 0:
		// A chain that leads nowhere, or RRs that nobody asked for.
		return Uncacheable, a
	}
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeNS && a.above(dns.CanonicalName(rr.Header().Name)) {
			return Delegation, a
		}
	}
	return Success, a
}

// MetaType says whether the type is no type of data: OPT, and what RFC 6895, section 3.1
// sets aside, transfers among it, but for ANY. A response to it is never stored.
func MetaType(t uint16) bool {
	return t == dns.TypeNone || t == dns.TypeOPT || (t >= 128 && t < dns.TypeANY)
}

func expiredSignature(m *dns.Msg, wall time.Time) bool {
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if s, ok := rr.(*dns.RRSIG); ok && !s.ValidityPeriod(wall) {
				return true
			}
		}
	}
	return false
}
