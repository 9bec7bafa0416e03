package forward

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerSize = 12
	// maxName bounds a name on the wire (RFC 1035, section 3.1).
	maxName = 255
	// optSize is an OPT record without options, as [appendOPT] writes it.
	optSize = 11

	// Bits of the header's octets 2 and 3.
	bitQR, bitTC, bitRD         = 0x80, 0x02, 0x01
	bitZ, bitAD, bitCD          = 0x40, 0x20, 0x10
	maskOpcode, maskRcode uint8 = 0x78, 0x0f
)

// layout is where things are in a message that [scan] walked through.
type layout struct {
	question int // end of the question section
	answers  int // records in ANSWER
	opts     int // OPT records
	opt      int // start of the first one, 0 if there is none
	optEnd   int // its end
	signed   bool
	end      int // end of the last record; what follows is no part of the message
	rcode    int // with the OPT record's upper bits (RFC 6891, section 6.1.3)
}

// lastOPT says whether the only OPT record is the last record and has no options, so
// that cutting it off leaves a whole message.
func (l *layout) lastOPT() bool {
	return l.opts == 1 && l.optEnd == l.end && l.optEnd-l.opt == optSize
}

// scan walks through a message of at most one question, and says whether it is whole:
// every name ends, every pointer leads back, every record lies inside, and the data of
// the common types have the form of their RFC. It allocates nothing.
func scan(wire []byte) (l layout, ok bool) {
	if len(wire) < headerSize {
		return l, false
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(wire[4+2*i:])) }
	at := headerSize
	switch count(0) {
	case 0:
	case 1:
		if at, ok = skipName(wire, at, len(wire)); !ok || at+4 > len(wire) {
			return l, false
		}
		at += 4
	default:
		return l, false
	}
	l.question, l.answers, l.rcode = at, count(1), int(wire[3]&maskRcode)
	for section := 1; section <= 3; section++ {
		for range count(section) {
			start := at
			if at, ok = skipName(wire, at, len(wire)); !ok || at+10 > len(wire) {
				return l, false
			}
			rtype := binary.BigEndian.Uint16(wire[at:])
			data := at + 10
			end := data + int(binary.BigEndian.Uint16(wire[at+8:]))
			if end > len(wire) || !wellFormed(wire, rtype, data, end) {
				return l, false
			}
			switch rtype {
			case dns.TypeOPT:
				if section != 3 {
					return l, false
				}
				if l.opts++; l.opts == 1 {
					l.opt, l.optEnd = start, end
					l.rcode |= int(wire[at+4]) << 4
				}
			case dns.TypeTSIG, dns.TypeSIG:
				l.signed = true
			}
			at = end
		}
	}
	l.end = at
	return l, true
}

// wellFormed says whether the data of a record may be what its type says. Types that it
// does not know pass: who forwards need not understand them (RFC 3597).
func wellFormed(wire []byte, rtype uint16, at, end int) bool {
	ends := func(from int) bool {
		next, ok := skipName(wire, from, end)
		return ok && next == end
	}
	switch rtype {
	case dns.TypeA:
		return end-at == 4
	case dns.TypeAAAA:
		return end-at == 16
	case dns.TypeCNAME, dns.TypeNS, dns.TypePTR, dns.TypeDNAME:
		return ends(at)
	case dns.TypeMX:
		return end-at > 2 && ends(at+2)
	case dns.TypeSRV:
		return end-at > 6 && ends(at+6)
	case dns.TypeSOA:
		next, ok := skipName(wire, at, end)
		if ok {
			next, ok = skipName(wire, next, end)
		}
		return ok && end-next == 20
	case dns.TypeTXT:
		for at < end {
			at += 1 + int(wire[at])
		}
		return at == end
	case dns.TypeOPT:
		for at < end {
			if end-at < 4 {
				return false
			}
			at += 4 + int(binary.BigEndian.Uint16(wire[at+2:]))
		}
		return at == end
	}
	return true
}

// skipName returns what follows the name at off, whose own octets end before limit. A
// pointer must lead back, each further than the one before it, so that a loop ends (RFC
// 9267, section 2).
func skipName(wire []byte, off, limit int) (next int, ok bool) {
	var (
		length int
		lowest = off
	)
	for at := off; at < limit; {
		c := int(wire[at])
		switch {
		case c == 0:
			if next == 0 {
				next = at + 1
			}
			return next, length < maxName
		case c < 0x40:
			at += 1 + c
			if length += 1 + c; length >= maxName {
				return 0, false
			}
		case c >= 0xc0:
			if at+1 >= limit {
				return 0, false
			}
			to := (c&0x3f)<<8 | int(wire[at+1])
			if to >= lowest || to < headerSize {
				return 0, false
			}
			if next == 0 {
				next, limit = at+2, len(wire)
			}
			at, lowest = to, to
		default:
			return 0, false
		}
	}
	return 0, false
}

// sameQuestion compares the question of a reply with that of the query that was sent,
// whose question ends at end. exact means the same octets, alike the same but for the
// case of letters.
func sameQuestion(reply, sent []byte, end int) (exact, alike bool) {
	if len(reply) < end {
		return false, false
	}
	got, want := reply[headerSize:end], sent[headerSize:end]
	if bytes.Equal(got, want) {
		return true, true
	}
	name := len(want) - 4
	if !bytes.Equal(got[name:], want[name:]) {
		return false, false
	}
	// Lengths of labels are below 64, so that folding letters leaves them alone.
	for i := range name {
		if lower(got[i]) != lower(want[i]) {
			return false, false
		}
	}
	return false, true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// mixCase returns a copy of a query, whose question ends at end, with the case of each
// letter in its name drawn anew: what a forger must guess besides port and id.
func mixCase(wire []byte, end int) []byte {
	out := bytes.Clone(wire)
	var bits [maxName]byte
	_, _ = rand.Read(bits[:]) // never fails: see crypto/rand
	for i := headerSize; i < end-4; i++ {
		if c := out[i] | 0x20; 'a' <= c && c <= 'z' && out[i] >= 'A' {
			out[i] = c ^ bits[i-headerSize]&0x20
		}
	}
	return out
}

// appendOPT appends an OPT record without options.
func appendOPT(b []byte, size uint16, do bool) []byte {
	var flags byte
	if do {
		flags = 0x80
	}
	return append(b, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), 0, 0, flags, 0, 0, 0)
}

// plainQuery says whether wire is a query that [Pool.ExchangeWire] takes: one question of
// a type that has one reply, opcode QUERY, no record but an OPT of version 0 without
// options. The layout is valid only then.
func plainQuery(wire []byte) (layout, bool) {
	if len(wire) < headerSize || wire[2]&(bitQR|bitTC|maskOpcode) != 0 || wire[3]&maskRcode != 0 ||
		binary.BigEndian.Uint16(wire[4:]) != 1 ||
		binary.BigEndian.Uint32(wire[6:]) != 0 || binary.BigEndian.Uint16(wire[10:]) > 1 {
		return layout{}, false
	}
	l, ok := scan(wire)
	if !ok || l.end != len(wire) || !singleReply(binary.BigEndian.Uint16(wire[l.question-4:])) {
		return layout{}, false
	}
	if l.opts == 0 {
		return l, l.end == l.question
	}
	return l, l.lastOPT() && wire[l.opt] == 0 && wire[l.opt+6] == 0 && l.rcode == 0
}

// doOf reads the DO bit of the OPT record at opt.
func doOf(wire []byte, opt int) bool { return wire[opt+7]&0x80 != 0 }

// withoutOPT returns sent without its OPT record, for an upstream that knows no EDNS, or
// nil where there is none or it carries what the client asked for.
func withoutOPT(sent []byte) []byte {
	l, ok := scan(sent)
	if !ok || l.signed || !l.lastOPT() || doOf(sent, l.opt) {
		return nil
	}
	out := bytes.Clone(sent[:l.opt])
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])-1)
	return out
}
