package names

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// Query is what is asked of a name, beside the name's meaning.
type Query struct {
	// Name is the QNAME in presentation form; it becomes the owner name as it is, so
	// that the client gets its own spelling back.
	Name string
	// Type is the QTYPE.
	Type uint16
	// Local is the address of ours that was asked, which `ns.Z` has; invalid for none.
	Local netip.Addr
	// Limit is the number of RRs in ANSWER beyond which none can fit; 0 for no limit.
	Limit int
	// Rand orders addresses. Safe for concurrent use if several queries share it.
	Rand Rand
}

// Status says what came of a query.
type Status uint8

// The statuses.
const (
	NotOurs Status = iota // somebody else may know the name
	Data                  // there is an RRset
	NoData                // the name exists without such an RRset (RFC 2308, section 2.2)
	NoName                // NXDOMAIN
)

var statusNames = [...]string{"not_ours", "data", "nodata", "nxdomain"}

func (s Status) String() string { return statusNames[s] }

// Answer is the reply to one query. Its RRs are the caller's.
type Answer struct {
	Status Status
	// Answer, Authority and Additional are the sections; Additional without OPT.
	Answer, Authority, Additional []dns.RR
	// Chase is the target of the CNAME that ends Answer, where the client asked for
	// something that only the target can have; else "".
	Chase string
	// Random says that the same question may be answered in another order, or with
	// another instance, the next time.
	Random bool
	// Weights, where not nil, say of each RR in Answer with what chance it is the first,
	// and the first of those left: all that may be in the answer are, and nothing but
	// their order is random. Each is above 0.
	Weights []uint32
	// LastGood says that every instance is critical and these were good before.
	LastGood bool
	// Service is the registered name of the service that was asked for, "" for other
	// names and for services that do not exist.
	Service string
}

// Answer answers the question, which is one that Parse read, from the snapshot. It
// never returns NotOurs in a zone that is Exclusive or Consul's.
func (z *Zone) Answer(s *registry.Snapshot, q Question, ask Query) Answer {
	m := maker{zone: z, snap: s, q: q, ask: ask, ttl: z.TTL.For("")}
	a := m.answer()
	if a.Status == NotOurs && (z.Exclusive || z.Consul) {
		a.Status = NoName
	}
	if a.Status == NoData || a.Status == NoName {
		a.Authority = []dns.RR{z.soa(s, z.Origin, z.NegativeTTL.For(a.Service), z.NegativeTTL.For(a.Service))}
	}
	return a
}

// Epoch returns what must stand still for the answer to this question to stay as it
// is, judged by the snapshot, or nil where nothing tells. Read it before the snapshot
// that the answer is made from; if that one has another Epoch, do not repeat the answer.
func (z *Zone) Epoch(v *registry.View, s *registry.Snapshot, q Question) *registry.Epoch {
	switch q.Kind {
	case KindService, KindInstance, KindInstances:
		if svc := s.Service(q.Name); svc != nil {
			return svc.Epoch
		}
	case KindNode:
		if n := s.Node(q.Name); n != nil {
			return n.Epoch
		}
	case KindRole, KindNS:
		// A role rests on the role and on its holder; ns.Z on the listener.
		return nil
	}
	return &v.Names
}

// maker is the making of one answer.
type maker struct {
	zone *Zone
	snap *registry.Snapshot
	q    Question
	ask  Query
	ttl  time.Duration
}

func (m *maker) answer() Answer {
	switch m.q.Kind {
	case KindOutside:
		return Answer{Status: NotOurs}
	case KindEmpty:
		return Answer{Status: NoData}
	case KindApex:
		return m.apex()
	case KindNS:
		return m.hosts(hosts{}.with(m.ask.Local), nil)
	case KindService:
		return m.service()
	case KindInstance:
		return m.instance()
	case KindInstances:
		if svc := m.snap.Service(m.q.Name); svc != nil {
			return Answer{Status: NoData, Service: svc.Name}
		}
	case KindNode:
		return m.node()
	case KindAddr:
		return m.hosts(hosts{}.with(m.q.Addr), nil)
	case KindRole:
		return m.role()
	}
	return Answer{Status: NoName}
}

// hosts answers A, AAAA and CNAME for one place, and whatever more the name has.
func (m *maker) hosts(h hosts, more []dns.RR) Answer {
	if h.name != "" && m.ask.Type != dns.TypeTXT && m.ask.Type != dns.TypeSRV {
		return m.alias(h.name)
	}
	var all []dns.RR
	if h.v4.IsValid() {
		all = append(all, m.address(m.ask.Name, h.v4))
	}
	if h.v6.IsValid() {
		all = append(all, m.address(m.ask.Name, h.v6))
	}
	return m.pick(append(all, more...))
}

// pick returns those of a name's RRs that were asked for.
func (m *maker) pick(all []dns.RR) Answer {
	a := Answer{Status: NoData}
	for _, rr := range all {
		t := rr.Header().Rrtype
		if m.ask.Type == dns.TypeANY && !m.zone.Consul && len(a.Answer) > 0 && a.Answer[0].Header().Rrtype != t {
			break // one RRset is enough (RFC 8482, section 4.1)
		}
		if t == m.ask.Type || m.ask.Type == dns.TypeANY {
			a.Answer = append(a.Answer, rr)
		}
	}
	if len(a.Answer) > 0 {
		a.Status = Data
	}
	return a
}

// alias answers with a CNAME, to be followed where that helps.
func (m *maker) alias(target string) Answer {
	target = dns.Fqdn(target)
	a := Answer{Status: Data, Answer: []dns.RR{&dns.CNAME{Hdr: m.header(m.ask.Name, dns.TypeCNAME), Target: target}}}
	if m.ask.Type != dns.TypeCNAME && m.ask.Type != dns.TypeANY {
		a.Chase = target
	}
	return a
}

func (m *maker) header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: seconds(m.ttl)}
}

func (m *maker) address(owner string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: m.header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: m.header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}
