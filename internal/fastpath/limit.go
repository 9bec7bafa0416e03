package fastpath

import (
	"encoding/binary"
	"time"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/ratelimit"
)

// limit is who decides whether an entry is repeated to a client. Immutable.
type limit struct {
	answer.Limit
	slip []byte // what is sent where the decision is so
}

// newLimit returns the limit of an entry with that packet, or nil for none.
func newLimit(by answer.Limit, packet []byte) *limit {
	if by.By == nil {
		return nil
	}
	return &limit{by, AppendSlip(nil, packet)}
}

// AppendSlip appends to dst what stands for a whole reply where that slips: its header
// with TC and without AA and AD, its question and, if it has an OPT, an OPT without
// options. A client that gets it comes back over TCP (RFC 7766, section 5). dst and reply
// do not overlap.
func AppendSlip(dst, reply []byte) []byte {
	begin := len(dst)
	end := skip(reply, headerLen) + 4
	dst = append(dst, reply[:end]...)
	h := dst[begin:]
	h[2] = h[2]&^0x04 | 0x02
	h[3] &^= 0x20
	clear(h[6:headerLen])
	if opt := optOf(reply, end); opt != nil {
		h[11] = 1
		dst = append(dst, opt[:9]...)
		dst = append(dst, 0, 0)
	}
	return dst
}

// optOf returns the OPT of a whole packet whose RRs begin at off, or nil.
func optOf(p []byte, off int) []byte {
	for off < len(p) {
		at := off
		if off = skip(p, off); off < 0 || off+10 > len(p) {
			return nil
		}
		if binary.BigEndian.Uint16(p[off:]) == typeOPT && off == at+1 {
			return p[at:]
		}
		off += 10 + int(binary.BigEndian.Uint16(p[off+8:]))
	}
	return nil
}

// give writes what the client of a query p gets, and returns its length: the reply and
// true, or an empty one, or nothing and 0, where a limit says so.
func (e *entry) give(dst, p []byte, q *query, peer *sockaddr, now time.Time) (size int, whole bool) {
	if l := e.limit; l != nil {
		switch l.By.Limit(peer.addrPort().Addr(), l.Class, now) {
		case ratelimit.Drop:
			return 0, false
		case ratelimit.Slip:
			size = copy(dst, l.slip)
			copy(dst, p[:2])
			copy(dst[headerLen:], q.name)
			return size, false
		}
	}
	return e.reply(dst, p, q, clock(now)), true
}
