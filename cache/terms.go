package cache

import (
	"time"

	"github.com/miekg/dns"
)

// The bounds that the stock directive has.
const (
	// DefaultMinTTL is how long an answer or a denial is kept at least.
	DefaultMinTTL = 5 * time.Second
	// DefaultMaxTTL is how long an answer is kept at most.
	DefaultMaxTTL = time.Hour
	// DefaultMaxDenialTTL is how long a denial is kept at most.
	DefaultMaxDenialTTL = 30 * time.Minute
	// DefaultFailureTTL is how long a SERVFAIL is kept.
	DefaultFailureTTL = 5 * time.Second
	// MaxFailureTTL bounds the life of a SERVFAIL (RFC 2308, section 7.1).
	MaxFailureTTL = 5 * time.Minute
	// unboundedTTL is the life of a response that holds no TTL at all.
	unboundedTTL = 5 * time.Second
)

// Terms says how long what is kept. All are whole seconds but Failure; a maximum is
// at least one second.
type Terms struct {
	MinSuccess, MaxSuccess time.Duration
	MinDenial, MaxDenial   time.Duration
	// Failure is the life of a SERVFAIL or NOTIMP; 0 keeps none.
	Failure time.Duration
	bounds  []bound // longest zone first, see WithBounds
}

// DefaultTerms returns the terms of a directive without options.
func DefaultTerms() Terms {
	return Terms{
		MinSuccess: DefaultMinTTL, MaxSuccess: DefaultMaxTTL,
		MinDenial: DefaultMinTTL, MaxDenial: DefaultMaxDenialTTL,
		Failure: DefaultFailureTTL,
	}
}

// Prepared is a response that is ready to be stored and to be written.
type Prepared struct {
	// Msg is the response without OPT, with its TTLs bounded, and for what is cacheable
	// without RRs that do not belong to its question.
	Msg *dns.Msg
	// Kind is what it says. Where it is not Uncacheable but Life is 0, the response must
	// not be kept.
	Kind Kind
	// Life is how long it may be kept, in whole seconds but for a Failure.
	Life time.Duration
	// Answers says that Msg holds an RRset of QTYPE at the end of QNAME's chain.
	Answers bool
	// EDE are the Extended DNS Errors that came with the response.
	EDE []EDE
}

// EDE is an Extended DNS Error (RFC 8914).
type EDE struct {
	Code uint16
	Text string
}

// maxEDE bounds the errors kept of one response, and maxEDEText their texts in octets.
const (
	maxEDE     = 4
	maxEDEText = 120
)

// Prepare decides what m, a response to a query with or without the DO bit, says, and
// how long that is true under the terms. wall is the time that signatures are compared
// with. m becomes the caller's Prepared.Msg and is changed: its RRs must not be shared.
func Prepare(m *dns.Msg, do bool, t Terms, wall time.Time) Prepared {
	p := Prepared{Msg: m, EDE: takeOPT(m)}
	var a answered
	p.Kind, a = classify(m, do, wall)
	if p.Kind == Uncacheable {
		return p
	}
	p.Answers = m.Rcode == dns.RcodeSuccess && a.full && a.sound
	prune(m, a)
	spell(m)
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			rr.Header().Ttl = wireTTL(rr.Header().Ttl)
		}
	}
	switch p.Kind {
	case Failure:
		p.Life = min(t.Failure, MaxFailureTTL)
	case Nodata, Nxdomain:
		// RFC 2308, section 5: the TTL of a denial is the SOA's, but at most its MINIMUM.
		s := soa(m, a)
		s.Hdr.Ttl = min(s.Hdr.Ttl, wireTTL(s.Minttl))
		p.Life = clamp(m, &t, true)
	default:
		p.Life = clamp(m, &t, false)
	}
	return p
}

// wireTTL reads a TTL: with its highest bit set it is 0 (RFC 2181, section 8).
func wireTTL(ttl uint32) uint32 {
	if ttl>>31 != 0 {
		return 0
	}
	return ttl
}

// clamp puts every TTL of m between the terms' bounds and returns the least, which is the
// response's life. A TTL of 0 in ANSWER or AUTHORITY is not raised: such data is for the
// query at hand only (RFC 1035, section 3.2.1), and the life is 0. In ADDITIONAL it is,
// because CoreDNS's whoami answers there with 0.
func clamp(m *dns.Msg, t *Terms, denial bool) time.Duration {
	least, most := t.ofQuestion(m.Question[0], denial)
	lo, hi := seconds(least), seconds(most)
	life, found := hi, false
	for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			h := rr.Header()
			if h.Ttl == 0 && (i < 2 || lo == 0) {
				return 0
			}
			h.Ttl = min(max(h.Ttl, lo), hi)
			life, found = min(life, h.Ttl), true
		}
	}
	if !found {
		life = min(life, seconds(unboundedTTL))
		if lo == 0 {
			// Nothing says that it may be kept.
			life = 0
		}
	}
	return time.Duration(life) * time.Second
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<31-1))
}

// takeOPT removes every OPT from m and returns the Extended DNS Errors that were there.
func takeOPT(m *dns.Msg) []EDE {
	var out []EDE
	m.Extra = keep(m.Extra, func(rr dns.RR) bool {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			return rr.Header().Rrtype != dns.TypeOPT
		}
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && len(out) < maxEDE {
				out = append(out, EDE{Code: e.InfoCode, Text: e.ExtraText[:min(len(e.ExtraText), maxEDEText)]})
			}
		}
		return false
	})
	return out
}

// spell gives the owner names that are QNAME the question's spelling, so that in the
// packet they point to it and follow the client's case when the question is patched.
func spell(m *dns.Msg) {
	name := m.Question[0].Name
	low := dns.CanonicalName(name)
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if h := rr.Header(); h.Name != name && dns.CanonicalName(h.Name) == low {
				h.Name = name
			}
		}
	}
}
