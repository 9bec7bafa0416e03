package fastpath

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// relayed is the relay of a generation in one loop.
type relayed struct {
	g *Generation
	r Relay
}

// relay returns the generation's relay in this loop, or nil.
func (b *batch) relay(g *Generation) Relay {
	for i := range b.relays {
		if b.relays[i].g == g {
			return b.relays[i].r
		}
	}
	if g.NewRelay == nil || !b.looped || g.ending.Load() {
		return nil
	}
	r := g.NewRelay()
	if r == nil {
		r = none{}
	}
	b.relays = append(b.relays, relayed{g, r})
	b.changed = true
	return r
}

// take offers packet i, which is p, to the relay.
func (b *batch) take(r Relay, g *Generation, s *socket, i int, p, key []byte, class uint32, now time.Time, buf []byte) (n int, taken bool) {
	q, f := &b.query, b.query.flags
	b.asked = Query{
		Packet: p, Name: key[keyPrefix:], Question: p[headerLen : headerLen+len(q.name)+4],
		Type: q.qtype, Class: q.qclass, Size: q.size,
		RD: f&flagRD != 0, AD: f&flagAD != 0, CD: f&flagCD != 0, DO: f&flagDO != 0, EDNS: f&flagEDNS != 0,
		Client: class &^ onHost, OnHost: class&onHost != 0, Now: now,
	}
	b.back = Return{g: g, socket: s, to: sockaddr{raw: b.peers[i].raw, len: b.in[i].Namelen}, class: class}
	return r.Take(&b.asked, &b.back, b, buf)
}

// serveRelays lets every relay tell what came, and give up what waits for too long.
func (b *batch) serveRelays(ready func(i int) bool) {
	for i := range b.relays {
		r := b.relays[i].r
		if ready(i) {
			r.Receive(b)
		}
		if next := r.Next(); !next.IsZero() && !time.Now().Before(next) {
			r.Expire(b)
		}
	}
	b.flush()
}

// endRelays ends those of generations that are ending.
func (b *batch) endRelays(all bool) {
	kept := b.relays[:0]
	for _, o := range b.relays {
		if all || o.g.ending.Load() {
			o.r.Close(b)
			b.changed = true
		} else {
			kept = append(kept, o)
		}
	}
	clear(b.relays[len(kept):])
	b.relays = kept
	b.flush()
}

// Buffer implements Outlet.
func (b *batch) Buffer() []byte {
	if b.replies == batchSize {
		b.flush()
	}
	return b.outBuf[b.replies][:]
}

// Reply implements Outlet.
func (b *batch) Reply(back *Return, n int) {
	i := b.replies
	if b.via != back.socket && i > 0 {
		b.flush()
		copy(b.outBuf[0][:n], b.outBuf[i][:n])
		i = 0
	}
	b.via = back.socket
	b.peers[i].raw = back.to.raw // of a batch received that was answered before
	b.outVec[i].SetLen(n)
	b.out[i].Name = (*byte)(unsafe.Pointer(&b.peers[i].raw))
	b.out[i].Namelen = back.to.len
	b.replies = i + 1
}

// flush sends the relays' replies.
func (b *batch) flush() {
	n, s := b.replies, b.via
	b.replies, b.via = 0, nil
	if n == 0 {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		b.send(s.fd, n)
	}
	b.ring.publish(0) // each record has its own duration
}

// Tell implements Outlet.
func (b *batch) Tell(back *Return, w *Watches, query, reply []byte, at time.Time, took time.Duration) {
	b.ring.note(w, query, reply, &back.to, clock(at), int64(took))
}

// Chain implements Outlet.
func (b *batch) Chain(back *Return, query []byte, begun any) {
	c := newClient(back.socket, query, &back.to, back.to.len, true, back.class)
	c.begun = begun
	back.g.miss(c)
}

// Family is 1 for a client over IPv4 and 2 over IPv6.
func (r *Return) Family() int {
	if r.to.raw.Family == unix.AF_INET {
		return 1
	}
	return 2
}

// Client returns the client's address, IPv4 as IPv4.
func (r *Return) Client() netip.Addr { return r.to.addrPort().Addr() }
