package cache

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAliases bounds the CNAMEs that PrepareWire follows.
	maxAliases = 8
	classIN    = 1
)

// PrepareWire is [Prepare] for the responses that nearly all are, in wire form and
// without a dns.Msg: an RRset of QTYPE, perhaps behind a few CNAMEs in their order, and
// nothing else; or a denial with the SOA of its zone alone. It bounds the TTLs in p. It
// says no, and has changed nothing, where p is anything else, even if Prepare could make
// something of it.
//
// p must be a whole response without OPT: every name ends, every pointer leads back,
// every record lies inside.
func PrepareWire(p []byte, t Terms) (Wire, bool) {
	w := walk{p: p}
	if len(p) < headerLen || p[2]&0xFA != 0x80 || binary.BigEndian.Uint16(p[4:]) != 1 ||
		binary.BigEndian.Uint16(p[10:]) != 0 || !w.question() {
		return Wire{}, false
	}
	answers, authority := int(binary.BigEndian.Uint16(p[6:])), int(binary.BigEndian.Uint16(p[8:]))
	full := 0
	for range answers {
		if !w.next() {
			return Wire{}, false
		}
		switch {
		case w.ttl == 0 || !w.same(w.owner, w.name()):
			return Wire{}, false
		case w.rrtype == w.qtype && (full == 0 || w.qtype != dns.TypeCNAME): // RFC 2181, section 10.1
			full++
		case full > 0 || w.rrtype != dns.TypeCNAME || w.qtype == dns.TypeCNAME || !w.follow():
			return Wire{}, false
		}
	}
	r := Wire{Packet: p, Kind: Success, Answers: true}
	switch rcode := p[3] & 0x0F; {
	case rcode == dns.RcodeSuccess && full > 0 && authority == 0:
	case full == 0 && authority == 1 && (rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError):
		if !w.next() || !w.denial() {
			return Wire{}, false
		}
		r.Kind, r.Answers = Nodata, false
		if rcode == dns.RcodeNameError {
			r.Kind = Nxdomain
		}
	default:
		return Wire{}, false
	}
	if w.off != len(p) {
		return Wire{}, false
	}
	least, most := w.bounds(&t, !r.Answers)
	life := w.bound(seconds(least), seconds(most))
	r.Life = time.Duration(life) * time.Second
	return r, true
}

// walk is a walk through the records of a response.
type walk struct {
	p      []byte
	off    int // behind the record
	qtype  uint16
	chain  [maxAliases + 1]int // where QNAME and the CNAMEs' targets are
	links  int
	at     [32]int // of the TTLs
	ttls   int
	owner  int
	rrtype uint16
	ttl    uint32
	data   int
	// minimum is the TTL of a denial's SOA, which is the last record; else 0.
	minimum uint32
}

func (w *walk) question() bool {
	end, pointed, err := skipName(w.p, headerLen)
	if err != nil || pointed || end+4 > len(w.p) {
		return false
	}
	w.qtype = binary.BigEndian.Uint16(w.p[end:])
	w.off = end + 4
	w.chain[0] = headerLen
	return binary.BigEndian.Uint16(w.p[end+2:]) == classIN && !MetaType(w.qtype) && w.qtype != dns.TypeANY && w.qtype != dns.TypeRRSIG
}

// name returns where the name is that the next record must be of.
func (w *walk) name() int { return w.chain[w.links] }

// next steps over a record. It says no at one that is not of class IN, or of too many.
func (w *walk) next() bool {
	w.owner = w.off
	off, _, err := skipName(w.p, w.off)
	if err != nil || off+10 > len(w.p) || w.ttls == len(w.at) {
		return false
	}
	w.rrtype = binary.BigEndian.Uint16(w.p[off:])
	w.ttl = wireTTL(binary.BigEndian.Uint32(w.p[off+4:]))
	w.at[w.ttls] = off + 4
	w.ttls++
	w.data = off + 10
	w.off = w.data + int(binary.BigEndian.Uint16(w.p[off+8:]))
	return binary.BigEndian.Uint16(w.p[off+2:]) == classIN && w.off <= len(w.p)
}

// follow goes on to the target of a CNAME. It says no at a loop, and after too many.
func (w *walk) follow() bool {
	if w.links == maxAliases {
		return false
	}
	for _, name := range w.chain[:w.links+1] {
		if w.same(w.data, name) {
			return false
		}
	}
	w.links++
	w.chain[w.links] = w.data
	return true
}

// denial says whether the record is the SOA of a zone that has the chain's end, and
// lowers its TTL to its MINIMUM (RFC 2308, section 5).
func (w *walk) denial() bool {
	if w.rrtype != dns.TypeSOA || w.off-w.data < 22 {
		return false
	}
	var a, b [maxName + 1]byte
	zone, ok := appendName(a[:0], w.p, w.owner)
	name, ok2 := appendName(b[:0], w.p, w.name())
	if !ok || !ok2 || !below(name, zone) {
		return false
	}
	w.minimum = min(w.ttl, wireTTL(binary.BigEndian.Uint32(w.p[w.off-4:])))
	return w.minimum > 0
}

// bounds returns what the terms say of the question.
func (w *walk) bounds(t *Terms, denial bool) (least, most time.Duration) {
	if len(t.bounds) == 0 {
		return t.of(nil, w.qtype, denial)
	}
	var name [maxName + 1]byte
	qname, _ := appendName(name[:0], w.p, headerLen) // it was stepped over
	return t.of(qname, w.qtype, denial)
}

// bound puts the TTLs between the bounds and returns the least of them.
func (w *walk) bound(lo, hi uint32) uint32 {
	life := hi
	for i, at := range w.at[:w.ttls] {
		ttl := binary.BigEndian.Uint32(w.p[at:])
		if i == w.ttls-1 && w.minimum > 0 {
			ttl = w.minimum
		}
		ttl = min(max(ttl, lo), hi)
		binary.BigEndian.PutUint32(w.p[at:], ttl)
		life = min(life, ttl)
	}
	return life
}

// same says whether two names are, without regard to case.
func (w *walk) same(a, b int) bool {
	a, b = w.target(a), w.target(b)
	if a == b {
		return true
	}
	var m, n [maxName + 1]byte
	x, ok := appendName(m[:0], w.p, a)
	y, ok2 := appendName(n[:0], w.p, b)
	return ok && ok2 && string(x) == string(y)
}

// target returns where a name that is a pointer alone points.
func (w *walk) target(off int) int {
	for off+1 < len(w.p) && w.p[off]&0xC0 == 0xC0 {
		to := int(binary.BigEndian.Uint16(w.p[off:]) & 0x3FFF)
		if to >= off {
			break
		}
		off = to
	}
	return off
}

// appendName appends the name at off without compression and in lower case.
func appendName(dst, p []byte, off int) ([]byte, bool) {
	n := len(dst)
	for limit := off; off < len(p); {
		c := int(p[off])
		switch {
		case c == 0:
			dst = append(dst, 0)
			lower(dst[n:])
			return dst, true
		case c >= 0xC0:
			if off+2 > len(p) {
				return dst, false
			}
			to := int(binary.BigEndian.Uint16(p[off:]) & 0x3FFF)
			if to >= limit {
				return dst, false
			}
			off, limit = to, to
		case c > 63 || off+1+c > len(p) || len(dst)-n+1+c >= maxName:
			return dst, false
		default:
			dst = append(dst, p[off:off+1+c]...)
			off += 1 + c
		}
	}
	return dst, false
}
