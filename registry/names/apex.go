package names

import (
	"time"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
)

// The timers of the SOA in seconds, for a secondary that transfers the zone.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 86400
)

// apex answers SOA and NS at the apex.
func (m *maker) apex() Answer {
	ns := &dns.NS{Hdr: m.header(m.ask.Name, dns.TypeNS), Ns: m.zone.ns()}
	a := m.pick([]dns.RR{m.zone.soa(m.snap, m.ask.Name, m.ttl, m.zone.NegativeTTL.For("")), ns})
	if m.ask.Type == dns.TypeNS && m.zone.NS == "" && m.ask.Local.IsValid() {
		a.Additional = []dns.RR{m.address(m.zone.ns(), hosts{}.with(m.ask.Local).first())}
	}
	return a
}

// SOA returns the zone's SOA at this snapshot.
func (z *Zone) SOA(s *registry.Snapshot) *dns.SOA {
	return z.soa(s, z.Origin, z.TTL.For(""), z.NegativeTTL.For(""))
}

func (z *Zone) soa(s *registry.Snapshot, owner string, ttl, negative time.Duration) *dns.SOA {
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: seconds(ttl)},
		Ns:      z.ns(),
		Mbox:    z.mbox(),
		Serial:  Serial(s.Serial),
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  seconds(negative),
	}
}

// Serial returns the serial of a revision (RFC 1982): its low 32 bits, never 0, which
// some secondaries take for "none".
func Serial(revision uint64) uint32 {
	if s := uint32(revision); s != 0 {
		return s
	}
	return 1
}

func (z *Zone) ns() string {
	if z.NS != "" {
		return dns.Fqdn(z.NS)
	}
	return wordNS + "." + z.Origin
}

func (z *Zone) mbox() string {
	if z.Mbox != "" {
		return dns.Fqdn(z.Mbox)
	}
	return "hostmaster." + z.Origin
}
