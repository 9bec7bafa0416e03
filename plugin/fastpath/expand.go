package fastpath

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	optLen    = 11
	// unfragmented is the length from which the server compresses a reply that would fit
	// the client without (over IPv6; IPv4 has some more).
	unfragmented = 1220
)

// expander writes names in full. literal says that one stood so in the response, to its
// root: it may be the question's name, spelt out.
type expander struct{ literal bool }

// append appends a response without OPT as the server writes one that fits the client:
// without compression. It says no where that would be longer than limit, and at types
// whose data may hold names that it does not know.
func (x *expander) append(dst, p []byte, limit int) ([]byte, bool) {
	off := question(p)
	dst = append(dst, p[:off]...)
	records := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:])) + int(binary.BigEndian.Uint16(p[10:]))
	for range records {
		var ok bool
		if dst, off, ok = x.appendName(dst, p, off, limit); !ok || len(dst)+10 > limit {
			return dst, false
		}
		rrtype, length := binary.BigEndian.Uint16(p[off:]), int(binary.BigEndian.Uint16(p[off+8:]))
		dst = append(dst, p[off:off+10]...)
		data, from := len(dst), off+10
		end := from + length
		plain, names := shape(rrtype)
		if names < 0 || length == 0 {
			return dst, false
		}
		if names == 0 {
			plain = length
		}
		if len(dst)+plain > limit {
			return dst, false
		}
		dst = append(dst, p[from:from+plain]...)
		from += plain
		for range names {
			if dst, from, ok = x.appendName(dst, p, from, limit); !ok {
				return dst, false
			}
		}
		if len(dst)+end-from > limit {
			return dst, false
		}
		dst = append(dst, p[from:end]...)
		binary.BigEndian.PutUint16(dst[data-2:], uint16(len(dst)-data))
		off = end
	}
	return dst, true
}

// shape returns how many octets stand before the names in the data of a type, and how
// many names there are; the rest is other octets. -1 names is a type that is not known.
func shape(rrtype uint16) (plain, names int) {
	switch rrtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeTXT:
		return 0, 0
	case dns.TypeCNAME, dns.TypePTR, dns.TypeNS:
		return 0, 1
	case dns.TypeMX:
		return 2, 1
	case dns.TypeSRV:
		return 6, 1
	case dns.TypeSOA:
		return 0, 2
	}
	return 0, -1
}

// appendName appends the name at off, and returns where it ends in p.
func (x *expander) appendName(dst, p []byte, off, limit int) ([]byte, int, bool) {
	start, end := off, 0
	for {
		c := int(p[off])
		switch {
		case c >= 0xC0:
			if end == 0 {
				end = off + 2
			}
			// The response was looked through: pointers lead back.
			off = int(binary.BigEndian.Uint16(p[off:]) & 0x3FFF)
		case len(dst)+1+c > limit:
			return dst, 0, false
		default:
			dst = append(dst, p[off:off+1+c]...)
			if off += 1 + c; c > 0 {
				continue
			}
			if end == 0 {
				end, x.literal = off, x.literal || off > start+1
			}
			return dst, end, true
		}
	}
}

// question returns where the question of a message ends.
func question(p []byte) int {
	off := headerLen
	for p[off] != 0 {
		off += 1 + int(p[off])
	}
	return off + 5
}

// appendFolded appends an expanded response so that every name that a packer may compress
// points into the question as far as it ends like QNAME, octet for octet: those follow
// the spelling of the query that a copy answers. Others stay in full.
func appendFolded(dst, p []byte) []byte {
	off := question(p)
	qname := p[headerLen : off-4]
	dst = append(dst, p[:off]...)
	for off < len(p) {
		dst, off = appendFold(dst, p, off, qname)
		rrtype, length := binary.BigEndian.Uint16(p[off:]), int(binary.BigEndian.Uint16(p[off+8:]))
		dst = append(dst, p[off:off+10]...)
		data, from := len(dst), off+10
		end := from + length
		if plain, names := shape(rrtype); names > 0 && rrtype != dns.TypeSRV { // RFC 2782: no compression
			dst = append(dst, p[from:from+plain]...)
			from += plain
			for range names {
				dst, from = appendFold(dst, p, from, qname)
			}
		}
		dst = append(dst, p[from:end]...)
		binary.BigEndian.PutUint16(dst[data-2:], uint16(len(dst)-data))
		off = end
	}
	return dst
}

// appendFold appends the name at off, and returns where it ends in p.
func appendFold(dst, p []byte, off int, qname []byte) ([]byte, int) {
	end := off
	for p[end] != 0 {
		end += 1 + int(p[end])
	}
	end++
	for ; p[off] != 0; off += 1 + int(p[off]) {
		// The end of QNAME that is as long begins at a label if it is the same.
		if from := len(qname) - (end - off); from >= 0 && string(qname[from:]) == string(p[off:end]) && begins(qname, from) {
			at := headerLen + from
			return append(dst, 0xC0|byte(at>>8), byte(at)), end
		}
		dst = append(dst, p[off:off+1+int(p[off])]...)
	}
	return append(dst, 0), end
}

// begins says whether a label of the name begins at the offset.
func begins(name []byte, at int) bool {
	i := 0
	for i < at {
		i += 1 + int(name[i])
	}
	return i == at
}
