package fastpath

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/resolverd/resolverd/internal/answer"
)

// maxReply bounds what is learnt: larger replies are rare, and costly to hold.
const maxReply = 1452

// Sink is told that n queries were answered with a reply that was learnt, took being
// about what each of them took. It is called soon after them, not for each, by any
// goroutine; it must not block.
type Sink func(n uint32, took time.Duration)

// entry is one learnt reply. All but the counters is immutable.
type entry struct {
	key    []byte
	packet []byte
	ttls   []uint16 // offsets of the TTLs where they count down
	spell  []spelling
	echo   bool // spell says where the name's spelling goes

	until int64 // nanoseconds of the engine's clock
	epoch *answer.Epoch
	seen  uint64
	since int64  // moment from which the TTLs count
	shown uint32 // seconds that packet has counted already
	sink  Sink
	draws *draws // not nil: one of several random replies
	order *order // not nil: the addresses come in random order

	watches *Watches // who is told of each repetition, or nil
	limit   *limit   // who is asked for each repetition, or nil

	hits atomic.Uint32 // since the last fold
	used atomic.Bool   // since all of its bucket were
}

// spelling is a part of a packet that is spelt as the end of QNAME is.
type spelling struct {
	at   uint16 // offset in the packet
	from uint8  // offset in QNAME
}

// cost is about what the entry takes of memory.
func (e *entry) cost() int64 {
	n := int64(len(e.key) + len(e.packet) + 2*len(e.ttls) + 4*len(e.spell) + 224)
	if e.watches != nil {
		n += e.watches.size
	}
	if e.limit != nil {
		n += int64(len(e.limit.slip)) + 64
	}
	if e.draws != nil {
		return n * draw
	}
	return n
}

// good says whether the entry may be repeated at now.
func (e *entry) good(now int64) bool {
	return now < e.until && (e.epoch == nil || e.epoch.Load() == e.seen)
}

// reply writes the reply to the query of that id and spelling into dst, which has
// room for it, and returns its length.
func (e *entry) reply(dst, id []byte, q *query, now int64) int {
	n := copy(dst, e.packet)
	dst[0], dst[1] = id[0], id[1]
	if q.flags&flagMixed != 0 {
		copy(dst[headerLen:], q.name)
		for _, s := range e.spell {
			copy(dst[s.at:], q.name[s.from:])
		}
	}
	if e.order != nil {
		e.order.apply(dst)
	}
	if e.ttls == nil {
		return n
	}
	if passed := uint32((now-e.since)/int64(time.Second)) - e.shown; passed > 0 {
		for _, o := range e.ttls {
			ttl := binary.BigEndian.Uint32(dst[o:])
			binary.BigEndian.PutUint32(dst[o:], ttl-min(ttl, passed))
		}
	}
	return n
}

// layout walks a reply that this process packed to the query of the key's name: it finds
// the TTLs but the OPT's, and where the spelling of QNAME is repeated. It refuses what is
// no whole reply to that question.
func layout(p, name []byte, ttls []uint16, spell []spelling) ([]uint16, []spelling, bool) {
	if len(p) < headerLen+len(name)+4 || p[2]&0x80 == 0 || binary.BigEndian.Uint16(p[4:]) != 1 {
		return nil, nil, false
	}
	for i, c := range p[headerLen : headerLen+len(name)] {
		if lower(c) != name[i] {
			return nil, nil, false
		}
	}
	off := headerLen + len(name) + 4
	for n := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:])) + int(binary.BigEndian.Uint16(p[10:])); n > 0; n-- {
		spell = match(p, off, name, spell)
		if off = skip(p, off); off < 0 || off+10 > len(p) {
			return nil, nil, false
		}
		rrtype := binary.BigEndian.Uint16(p[off:])
		if rrtype != typeOPT {
			ttls = append(ttls, uint16(off+4))
		}
		data := off + 10
		off = data + int(binary.BigEndian.Uint16(p[off+8:]))
		if off > len(p) {
			return nil, nil, false
		}
		for at := names(rrtype); len(at) > 0; at = at[1:] {
			if data = at[0] + data; data >= off {
				return nil, nil, false
			}
			spell = match(p, data, name, spell)
			if data = skip(p, data); data < 0 || data > off {
				return nil, nil, false
			}
		}
	}
	return ttls, spell, off == len(p)
}

// names returns how far before each name in the RDATA of the type there are other
// octets. They are the names that a packer may compress (RFC 3597, section 4): only
// those follow the question's spelling.
func names(rrtype uint16) []int {
	switch rrtype {
	case 2, 3, 4, 5, 7, 8, 9, 12: // NS MD MF CNAME MB MG MR PTR
		return []int{0}
	case 6, 14: // SOA MINFO
		return []int{0, 0}
	case 15: // MX
		return []int{2}
	}
	return nil
}

func lower(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

// skip returns the offset behind the name at off, or -1.
func skip(p []byte, off int) int {
	for off < len(p) {
		switch c := int(p[off]); {
		case c == 0:
			return off + 1
		case c >= 0xC0:
			if off+2 > len(p) {
				return -1
			}
			return off + 2
		case c > 63:
			return -1
		default:
			off += 1 + c
		}
	}
	return -1
}

// match notes where the literal name at off begins to read like an end of QNAME, octet
// for octet. A name that ends in a pointer is spelt by what it points to.
func match(p []byte, off int, name []byte, to []spelling) []spelling {
	for off < len(p) && p[off] != 0 && p[off] < 0xC0 {
		for from := 0; from < len(name) && name[from] != 0; from += 1 + int(name[from]) {
			if rest := name[from:]; off+len(rest) <= len(p) && string(p[off:off+len(rest)]) == string(rest) {
				return append(to, spelling{uint16(off), uint8(from)})
			}
		}
		off += 1 + int(p[off])
	}
	return to
}
