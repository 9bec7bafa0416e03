package fastpath

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/internal/fastpath"

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
	folded  []byte
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
func (r *relay) Take(q *engine.Query, back engine.Return) bool {
	if q.Class != dns.ClassINET || q.Type == dns.TypeDS || q.Type == dns.TypeANY || store.MetaType(q.Type) {
		return false
	}
	region := r.courses.find(q.Name)
	if region == nil || len(region.ways) == 0 {
		return false
	}
	by := chosen{region, q.Client}
	course, known := r.chosen[by]
	if !known {
		course = region.choose(r.courses.listener, back.Client())
		r.chosen[by] = course
	}
	if course == nil {
		return false
	}
	c := r.slot()
	var f store.Flags
	if q.RD {
		f |= store.RD
	}
	if q.DO {
		f |= store.DO
	}
	if q.CD {
		f |= store.CD
	}
	key := store.AppendKey(c.key[:0], q.Name, q.Type, q.Class, f)
	epoch, lacks := course.cache.Lacks(key)
	if !lacks || !course.forward.Begin(r.courier, upstreams.Errand{Question: q.Question, RD: q.RD, CD: q.CD, DO: q.DO, Token: c.token}, q.Now) {
		r.free = append(r.free, c)
		return false
	}
	c.course, c.back, c.began, c.epoch, c.keyLen = course, back, q.Now, epoch, len(key)
	c.ad, c.do, c.edns, c.size, c.qtype = q.AD, q.DO, q.EDNS, q.Size, q.Type
	if !q.OnHost {
		c.size = min(c.size, remoteSize)
	}
	c.length = copy(c.query[:], q.Packet)
	return true
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
	limit := dns.MinMsgSize
	if c.edns {
		limit = max(limit, int(c.size))
	}
	buf := r.out.Buffer()
	var x expander
	reply, ok := x.append(buf[:0], packet, min(limit, unfragmented, len(buf))-optLen)
	if !ok {
		return false
	}
	if x.literal {
		r.folded = appendFolded(r.folded[:0], reply)
		kept.Packet = r.folded
	}
	given := len(reply)
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
	c.course.cache.Keep(c.key[:c.keyLen], kept, c.epoch, r.now)
	r.count(c, given, packet[3]&0x0F)
	r.out.Reply(&c.back, len(reply))
	return true
}
