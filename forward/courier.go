package forward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Errand is one plain query for a [Courier].
type Errand struct {
	Pool *Pool
	// Refuse is as in [Query].
	Refuse func(Endpoint) bool
	// Question is QNAME as the client spelt it, not compressed, QTYPE and QCLASS, in wire
	// form. It is copied.
	Question []byte
	// RD, CD and DO are the client's bits. AD is always set, so that the reply serves those
	// who ask for it and, with the bit cleared, those who do not.
	RD, CD, DO bool
	// Token is the caller's, and comes back with the outcome.
	Token uint32
}

// errand is one under way. Those of one upstream form a list in the order in which their
// time is up.
type errand struct {
	pool       *Pool
	port       *port
	token      uint32
	key        uint64
	led        flight
	job        job
	began      time.Time
	deadline   time.Time
	prev, next *errand
	wire       [querySize]byte
}

// querySize is room for any plain query with our OPT.
const querySize = headerSize + maxName + 4 + optSize

// id returns the id under which it was sent.
func (e *errand) id() uint16 { return binary.BigEndian.Uint16(e.wire[:]) }

// compose makes the query for the upstream, as [Pool.ExchangeWire] does: whoever asks the
// same must find it under way.
func (e *errand) compose(q *Errand) {
	h := [headerSize]byte{3: bitAD, 5: 1, 11: 1}
	if q.RD {
		h[2] = bitRD
	}
	if q.CD {
		h[3] |= bitCD
	}
	w := append(append(e.wire[:0], h[:]...), q.Question...)
	e.job = job{question: len(w)}
	e.job.wire = appendOPT(w, q.Pool.o.EDNSSize, q.DO)
}

// Outcome is what became of an errand. It is valid until the function that is given it
// returns.
type Outcome struct {
	Token  uint32
	packet []byte // the reply as it came, nil without one
	err    error  // why there is none; nil where nothing was asked, or it must be asked again
	e      *errand
	layout layout
	up     *upstream
	local  netip.AddrPort
	cut    bool // Bare took the OPT off
}

// Bare returns the reply without its OPT, which the caller may change, and true; or
// false where there is none that could be given to the client without more ado: nobody
// answered, another upstream must be asked, TCP must be, or there are EDNS options to be
// looked at.
func (o *Outcome) Bare() ([]byte, bool) {
	l := &o.layout
	if o.packet == nil || o.packet[2]&bitTC != 0 || l.signed || l.question != o.e.job.question ||
		l.opts > 0 && !l.lastOPT() || l.rcode > int(maskRcode) || o.e.pool.goesOn(l.rcode) || l.knowsNoEDNS() {
		return nil, false
	}
	if l.opts == 0 {
		return o.packet[:l.end], true
	}
	if !o.cut {
		o.cut = true
		binary.BigEndian.PutUint16(o.packet[10:], binary.BigEndian.Uint16(o.packet[10:])-1)
	}
	return o.packet[:l.opt], true
}

// Begun returns the reply, or the failure, for [Query.Begun]; nil where the query is to be
// asked as if nobody had.
func (o *Outcome) Begun() *Begun {
	if o.packet == nil {
		if o.err == nil {
			return nil
		}
		return &Begun{pool: o.e.pool, up: o.up, at: o.e.began, err: o.err}
	}
	b := &Begun{pool: o.e.pool, up: o.up, at: o.e.began, reply: reply{wire: bytes.Clone(o.packet[:o.layout.end]), layout: o.layout, local: o.local}}
	if o.cut {
		binary.BigEndian.PutUint16(b.reply.wire[10:], binary.BigEndian.Uint16(b.reply.wire[10:])+1)
	}
	return b
}

// Begun is a query that somebody has asked an upstream for, and its reply or failure,
// which is counted and learnt: whoever goes on with the query begins with it.
type Begun struct {
	pool  *Pool
	up    *upstream
	at    time.Time
	reply reply
	err   error
}

// first returns the upstreams with the one that was asked in front.
func (b *Begun) first(ups []*upstream) []*upstream {
	all := make([]*upstream, 1, len(ups)+1)
	all[0] = b.up
	for _, u := range ups {
		if u != b.up {
			all = append(all, u)
		}
	}
	return all
}

// resume takes the begun attempt for the job's first.
func (b *Begun) resume(ctx context.Context, p *Pool, j *job) (proto string, err error) {
	switch {
	case errors.Is(b.err, errDoubtful):
		return b.up.askWhole(ctx, &j.r, &j.got, b.err)
	case b.err != nil:
		return "udp", b.err
	}
	j.got = b.reply
	if j.got.truncated() {
		return b.up.askWhole(ctx, &j.r, &j.got, nil)
	}
	if j.got.layout.knowsNoEDNS() {
		return p.attemptBare(ctx, b.up, &j.r, &j.got, false, "udp")
	}
	return "udp", nil
}
