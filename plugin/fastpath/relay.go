package fastpath

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/internal/fastpath"
	"github.com/resolverd/resolverd/internal/ratelimit"

	store "github.com/resolverd/resolverd/cache"
	upstreams "github.com/resolverd/resolverd/forward"
)

// remoteSize is the size that the loader lowers what clients on other hosts announce to.
const remoteSize = 1232

// relay carries the plain queries of one loop that the cache lacks to the upstreams, by
// the courses of a listener. It implements [engine.Relay].
type relay struct {
	courses *courses
	courier *upstreams.Courier
	chosen  map[chosen]*course
	tallies map[counted]*tally
	flushAt time.Time // when the tallies are told; zero: they are empty
	x       expander
	folded  []byte
	cached  []byte
	slip    []byte
	carried []*carried // by token
	free    []*carried
	out     engine.Outlet // of the call that is under way
	now     time.Time
	tell    func(*upstreams.Outcome)
}

// chosen is what a course is chosen by.
type chosen struct {
	region *region
	client uint32
}

// carried is a query under way.
type carried struct {
	token          uint32
	course         *course
	back           engine.Return
	began          time.Time
	epoch          uint64
	ad, do, edns   bool
	size           uint16
	qtype          uint16
	key            [store.MaxKey]byte
	query          [512]byte
	keyLen, length int
}

// newRelay returns a relay, or nil where there is none on this system.
func newRelay(c *courses) engine.Relay {
	courier, err := upstreams.NewCourier()
	if err != nil {
		return nil
	}
	r := &relay{courses: c, courier: courier, chosen: map[chosen]*course{}, tallies: map[counted]*tally{}}
	r.tell = r.told
	return r
}

// Take implements engine.Relay.
func (r *relay) Take(q *engine.Query, back *engine.Return, out engine.Outlet, buf []byte) (n int, taken bool) {
	if q.Class != dns.ClassINET || q.Type == dns.TypeDS || q.Type == dns.TypeANY || store.MetaType(q.Type) {
		return 0, false
	}
	region := r.courses.find(q.Name)
	if region == nil || len(region.ways) == 0 {
		return 0, false
	}
	by := chosen{region, q.Client}
	course, known := r.chosen[by]
	if !known {
		course = region.choose(r.courses.listener, back.Client())
		r.chosen[by] = course
	}
	if course == nil {
		return 0, false
	}
	c := r.slot()
	key := store.AppendKey(c.key[:0], q.Name, q.Type, q.Class, flagsOf(q))
	found := course.cache.Find(key, r.cached[:0], store.Reply{
		ID: binary.BigEndian.Uint16(q.Packet), RD: q.RD, CD: q.CD, AD: q.AD || q.DO, Question: q.Question[:len(q.Question)-4],
	}, q.Now)
	c.course, c.back, c.began, c.keyLen, c.epoch = course, *back, q.Now, len(key), found.Epoch
	c.ad, c.do, c.edns, c.size, c.qtype = q.AD, q.DO, q.EDNS, q.Size, q.Type
	if !q.OnHost {
		c.size = min(c.size, remoteSize)
	}
	c.length = copy(c.query[:], q.Packet)
	withheld := false
	switch {
	case found.Reply != nil:
		r.cached = found.Reply
		if reply, given, ok := r.write(c, buf[:0], r.cached); ok {
			r.now = time.Now()
			course.cache.Given(found, r.now)
			r.count(c, given, reply[3]&0x0F)
			r.out = out
			n = r.admit(c, reply)
			withheld = n == 0
		}
	case found.Nothing:
		taken = course.forward.Begin(r.courier, upstreams.Errand{Question: q.Question, RD: q.RD, CD: q.CD, DO: q.DO, Token: c.token}, q.Now)
	}
	if !taken {
		r.free = append(r.free, c)
	}
	return n, taken || withheld
}

func flagsOf(q *engine.Query) (f store.Flags) {
	if q.RD {
		f |= store.RD
	}
	if q.DO {
		f |= store.DO
	}
	if q.CD {
		f |= store.CD
	}
	return f
}

func (r *relay) slot() *carried {
	if n := len(r.free); n > 0 {
		c := r.free[n-1]
		r.free = r.free[:n-1]
		return c
	}
	c := &carried{token: uint32(len(r.carried))}
	r.carried = append(r.carried, c)
	return c
}

// Send implements engine.Relay.
func (r *relay) Send(out engine.Outlet) {
	r.out = out
	r.courier.Send(r.tell)
}

// FD implements engine.Relay.
func (r *relay) FD() int { return r.courier.FD() }

// Receive implements engine.Relay.
func (r *relay) Receive(out engine.Outlet) {
	r.out, r.now = out, time.Now()
	r.courier.Receive(r.now, r.tell)
}

// Next implements engine.Relay.
func (r *relay) Next() time.Time {
	next := r.courier.Next()
	if next.IsZero() || !r.flushAt.IsZero() && r.flushAt.Before(next) {
		return r.flushAt
	}
	return next
}

// Expire implements engine.Relay.
func (r *relay) Expire(out engine.Outlet) {
	r.out, r.now = out, time.Now()
	r.courier.Expire(r.now, r.tell)
	if !r.flushAt.IsZero() && !r.now.Before(r.flushAt) {
		r.flush()
	}
}

// Close implements engine.Relay.
func (r *relay) Close(out engine.Outlet) {
	r.out = out
	r.courier.Close(r.tell)
	r.flush()
}

// told gives the client the reply, or the query to the chain, with what is known.
func (r *relay) told(o *upstreams.Outcome) {
	c := r.carried[o.Token]
	c.course.forward.End()
	if packet, ok := o.Bare(); !ok || !r.answer(c, packet) {
		if b := o.Begun(); b != nil {
			r.out.Chain(&c.back, c.query[:c.length], b)
		} else {
			r.out.Chain(&c.back, c.query[:c.length], nil)
		}
	}
	r.free = append(r.free, c)
}

// answer writes the upstream's reply to the client as the chain would, keeps it and
// counts both. It says no where that takes the chain.
func (r *relay) answer(c *carried, packet []byte) bool {
	packet[3] &^= 0x40 // Z must be zero in all messages (RFC 1035, section 4.1.1)
	kept, ok := c.course.cache.Prepare(packet)
	if !ok {
		return false
	}
	rcode := packet[3] & 0x0F
	reply, given, ok := r.write(c, r.out.Buffer()[:0], packet)
	if !ok {
		return false
	}
	if r.x.literal {
		r.folded = appendFolded(r.folded[:0], reply[:given])
		kept.Packet = r.folded
		kept.Packet[3] = packet[3] // with AD, and without the client's OPT
		kept.Packet[11] = packet[11]
	}
	c.course.cache.Keep(c.key[:c.keyLen], kept, c.epoch, r.now)
	r.count(c, given, rcode)
	if n := r.admit(c, reply); n > 0 {
		r.out.Reply(&c.back, n)
	}
	return true
}

// admit returns how much of the reply goes to the client, as rrl in the block would: all
// of it, an empty one that it is made to, or nothing.
func (r *relay) admit(c *carried, reply []byte) int {
	l := c.course.limit
	if l == nil {
		r.tellOf(c, reply)
		return len(reply)
	}
	class := ratelimit.ClassOf(int(reply[3]&0x0F), int(binary.BigEndian.Uint16(reply[6:])))
	switch l.Limit(c.back.Client(), class, r.now) {
	case ratelimit.Drop:
		return 0
	case ratelimit.Slip:
		r.slip = engine.AppendSlip(r.slip[:0], reply)
		return copy(reply, r.slip)
	}
	r.tellOf(c, reply)
	return len(reply)
}

// tellOf has those who write down each response told of this one. They see the query with
// the size that was made of what the client announces.
func (r *relay) tellOf(c *carried, reply []byte) {
	w := c.course.watches
	if w == nil {
		return
	}
	query := c.query[:c.length]
	if c.edns {
		putSize(query, c.size)
	}
	r.out.Tell(&c.back, w, query, reply, c.began, r.now.Sub(c.began))
}

// write appends the reply to c as the server would write it: without compression, the id
// and the OPT the client's. given is its length without the OPT. It says no where the
// server would compress or cut it.
func (r *relay) write(c *carried, buf, packet []byte) (reply []byte, given int, ok bool) {
	limit := dns.MinMsgSize
	if c.edns {
		limit = max(limit, int(c.size))
	}
	r.x.literal = false
	if reply, ok = r.x.append(buf, packet, min(limit, unfragmented, cap(buf))-optLen); !ok {
		return nil, 0, false
	}
	given = len(reply)
	copy(reply, c.query[:2])
	if !c.ad && !c.do {
		reply[3] &^= 0x20 // AD (RFC 6840, section 5.8)
	}
	if c.edns {
		var do byte
		if c.do {
			do = 0x80
		}
		reply[11] = 1
		reply = append(reply, 0, 0, byte(dns.TypeOPT), 0, 0, 0, 0, do, 0, 0, 0)
		binary.BigEndian.PutUint16(reply[given+3:], c.size)
	}
	return reply, given, true
}
