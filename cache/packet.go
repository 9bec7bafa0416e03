package cache

import (
	"encoding/binary"
	"errors"
)

const (
	headerLen = 12
	typeOPT   = 41
	maxPacket = 65535
)

var (
	errShort    = errors.New("cache: packet is cut short")
	errQuestion = errors.New("cache: packet has not exactly one question")
	errLabel    = errors.New("cache: malformed label or compression pointer")
	errOPT      = errors.New("cache: packet holds an OPT")
)

// layout is where the changeable parts of a packet are.
type layout struct {
	question int      // octets of QNAME, which begins at headerLen
	ttls     []uint16 // offsets of the TTL fields of all RRs
}

// index finds the layout of a response packet, which may be hostile (RFC 9267): counts
// are believed only as far as there are octets for them, a name is never followed
// through a pointer, only stepped over, and RDATA is not looked into. An OPT is refused,
// for what is stored is without one: it belongs to a single hop (RFC 6891, section 6.1.1).
// The TTLs' offsets are appended to room.
func index(p []byte, room []uint16) (layout, error) {
	var l layout
	if len(p) < headerLen {
		return l, errShort
	}
	if len(p) > maxPacket {
		return l, errShort
	}
	if binary.BigEndian.Uint16(p[4:]) != 1 {
		return l, errQuestion
	}
	records := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:])) + int(binary.BigEndian.Uint16(p[10:]))
	// The least RR has eleven octets: a larger count is a lie, found out before anything
	// is allocated for it.
	if records > (len(p)-headerLen)/11 {
		return l, errShort
	}
	off, pointed, err := skipName(p, headerLen)
	if err != nil {
		return l, err
	}
	if pointed || off-headerLen > maxName {
		return l, errLabel
	}
	l.question = off - headerLen
	off += 4
	if off > len(p) {
		return l, errShort
	}
	l.ttls = room
	for range records {
		if off, _, err = skipName(p, off); err != nil {
			return l, err
		}
		if off+10 > len(p) {
			return l, errShort
		}
		if binary.BigEndian.Uint16(p[off:]) == typeOPT {
			return l, errOPT
		}
		l.ttls = append(l.ttls, uint16(off+4))
		off += 10 + int(binary.BigEndian.Uint16(p[off+8:]))
		if off > len(p) {
			return l, errShort
		}
	}
	return l, nil
}

// skipName returns the offset after the name at off, and whether it ended in a pointer.
func skipName(p []byte, off int) (int, bool, error) {
	for {
		if off >= len(p) {
			return 0, false, errShort
		}
		switch c := p[off]; {
		case c == 0:
			return off + 1, false, nil
		case c&0xC0 == 0xC0:
			if off+2 > len(p) {
				return 0, false, errShort
			}
			// A pointer points backwards (RFC 1035, section 4.1.4).
			if int(binary.BigEndian.Uint16(p[off:])&0x3FFF) >= off {
				return 0, false, errLabel
			}
			return off + 2, true, nil
		case c&0xC0 != 0:
			return 0, false, errLabel
		default:
			off += 1 + int(c)
		}
	}
}
