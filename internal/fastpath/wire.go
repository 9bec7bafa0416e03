package fastpath

import "encoding/binary"

const (
	headerLen = 12
	typeOPT   = 41
	maxName   = 255 // RFC 1035, section 2.3.4
	// maxQuery is where the dns.Server of the chain cuts a query: what is longer is no
	// plain query there, nor here.
	maxQuery = 512
)

// flags is what a query asks beside its question. Each bit makes another answer.
type flags byte

const (
	flagRD flags = 1 << iota
	flagAD
	flagCD
	flagDO
	flagEDNS
	flagMixed // the name has an upper-case letter; no part of the key
)

// query is a plain query: opcode QUERY, one question, nothing else but at most one OPT
// of version 0 without options, no bit set that this package does not know, no octet
// behind it.
type query struct {
	name          []byte // QNAME in wire form as spelt, a part of the packet
	qtype, qclass uint16
	flags         flags
	size          uint16 // UDP payload size of the OPT, 0 without one
}

// parse reads a plain query and says whether p is one. What it refuses may still be a
// good query: the chain will see.
func (q *query) parse(p []byte) bool {
	if len(p) < headerLen+5 || len(p) > maxQuery {
		return false
	}
	// QR, opcode, AA, TC; RA, Z and RCODE: all clear. QDCOUNT 1, no RR but an OPT.
	if p[2]&^0x01 != 0 || p[3]&^0x30 != 0 || p[4] != 0 || p[5] != 1 || p[6]|p[7]|p[8]|p[9]|p[10] != 0 || p[11] > 1 {
		return false
	}
	var f flags
	if p[2]&0x01 != 0 {
		f |= flagRD
	}
	if p[3]&0x20 != 0 {
		f |= flagAD
	}
	if p[3]&0x10 != 0 {
		f |= flagCD
	}
	off := headerLen
	for {
		l := int(p[off])
		if l > 63 {
			return false
		}
		off += 1 + l
		// Four octets of type and class follow the root.
		if off+4 > len(p) || off-headerLen > maxName {
			return false
		}
		if l == 0 {
			break
		}
		if off+5 > len(p) {
			return false
		}
	}
	q.name = p[headerLen:off]
	q.qtype = binary.BigEndian.Uint16(p[off:])
	q.qclass = binary.BigEndian.Uint16(p[off+2:])
	q.size = 0
	off += 4
	if p[11] == 1 {
		o := p[off:]
		// Root, OPT, size, extended RCODE and version 0, DO alone, no options.
		if len(o) != 11 || o[0] != 0 || binary.BigEndian.Uint16(o[1:]) != typeOPT ||
			o[5] != 0 || o[6] != 0 || o[7]&^0x80 != 0 || o[8] != 0 || o[9] != 0 || o[10] != 0 {
			return false
		}
		f |= flagEDNS
		if o[7] != 0 {
			f |= flagDO
		}
		q.size = binary.BigEndian.Uint16(o[3:])
		off += 11
	}
	q.flags = f
	return off == len(p)
}
