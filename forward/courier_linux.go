package forward

import (
	"context"
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// fleetPorts is how many sockets to one upstream take queries at a time: more of them
	// make each system call carry less.
	fleetPorts = 4
	// mostPorts bounds the sockets to one upstream, those among them that are full or wait
	// for their last replies.
	mostPorts = maxErrands/udpWaiting + 2*fleetPorts
	// maxErrands bounds what one courier has under way.
	maxErrands = MaxInFlight
	// courierSize is the largest reply that a courier receives; a pool that asks for larger
	// ones goes without.
	courierSize = 4 << 10
	// idSlots is where the errands of a socket wait for their replies: an id is drawn until
	// its place is free, of which a forger learns nothing.
	idSlots = 4 * udpWaiting
	// mailPackets is how many packets are received and sent at a time.
	mailPackets = 64
)

// Courier asks upstreams over UDP for one thread, which never waits for one of them: it
// begins errands, sends those that were begun, and collects what came back when the
// courier's descriptor is readable. Ports and ids are as for everybody: a few sockets
// that are given up soon, an id from the system's generator, and a reply is believed by
// the same rules. Whatever is not a good first reply is handed back, for the pool to
// go on with.
//
// A Courier belongs to one thread: its methods must not run side by side.
type Courier struct {
	epoll   int
	fleets  map[*upstream]*fleet
	ports   []*port // by the number that epoll knows it by; nil where there is none
	empty   []uint32
	unsent  []*port
	free    []*errand
	flying  int
	next    time.Time // when Expire has something to do; zero: never
	ids     ids
	mail    *mailbag
	outcome Outcome
}

// fleet is the sockets to one upstream.
type fleet struct {
	up             *upstream
	read           time.Duration
	uses           int
	age            time.Duration
	ports          []*port // that take queries
	drawn          *port   // for what is sent next, or nil
	all            int     // those that wait for their last replies, too
	oldest, newest *errand
}

// port is a connected UDP socket.
type port struct {
	fd      int
	number  uint32
	fleet   *fleet
	local   netip.AddrPort
	until   time.Time
	used    int
	ignored int
	spent   bool      // it takes no more
	out     []*errand // begun and not sent
	waiting int
	slots   [idSlots]*errand // those that wait, by the low bits of their ids
}

// NewCourier returns a courier without sockets.
func NewCourier() (*Courier, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("forward: epoll: %w", err)
	}
	return &Courier{epoll: fd, fleets: map[*upstream]*fleet{}, mail: newMailbag()}, nil
}

// FD returns a descriptor that is readable while replies wait.
func (c *Courier) FD() int { return c.epoll }

// Flying returns how many errands are under way.
func (c *Courier) Flying() int { return c.flying }

// Next returns when Expire has something to do; the zero Time means never.
func (c *Courier) Next() time.Time { return c.next }

// Begin takes a query over, to be sent by the next Send. It says no, and does nothing,
// where the pool must be asked in another way: the upstream to be asked is not plain DNS,
// the directive wants more than one query sent (hedge) or its name's case mixed, an
// identical query is under way, or too many are.
func (c *Courier) Begin(q Errand, now time.Time) bool {
	o := &q.Pool.o
	if c.flying >= maxErrands || o.ForceTCP || o.MixCase || o.Hedge > 0 || o.EDNSSize > courierSize || o.connect != nil ||
		len(q.Question) > maxName+4 || len(q.Question) < 5 {
		return false
	}
	ups, free, err := q.Pool.candidates(q.Refuse)
	if err != nil || !free || ups[0].Transport != Plain || ups[0].State() != Up {
		return false
	}
	e := c.errand()
	e.compose(&q)
	e.led = flight{wire: e.job.wire}
	var ok bool
	if e.key, ok = q.Pool.flights.begin(&e.led); !ok {
		c.free = append(c.free, e)
		return false
	}
	f := c.fleet(q.Pool, ups[0])
	p := c.port(f, o, now)
	if p == nil {
		q.Pool.flights.land(e.key, &e.led, &e.job, &Failure{Err: context.Canceled})
		c.free = append(c.free, e)
		return false
	}
	e.pool, e.port, e.token, e.began, e.deadline = q.Pool, p, q.Token, now, now.Add(f.read)
	for {
		id := c.ids.next()
		if at := &p.slots[id%idSlots]; *at == nil {
			binary.BigEndian.PutUint16(e.wire[:], id)
			*at = e
			break
		}
	}
	p.waiting++
	p.used++
	f.push(e)
	c.flying++
	c.due(e.deadline)
	if len(p.out) == 0 {
		c.unsent = append(c.unsent, p)
	}
	p.out = append(p.out, e)
	return true
}

func (c *Courier) errand() *errand {
	if n := len(c.free); n > 0 {
		e := c.free[n-1]
		c.free = c.free[:n-1]
		return e
	}
	return new(errand)
}

func (c *Courier) due(at time.Time) {
	if c.next.IsZero() || at.Before(c.next) {
		c.next = at
	}
}

func (c *Courier) fleet(p *Pool, u *upstream) *fleet {
	f := c.fleets[u]
	if f == nil {
		f = &fleet{up: u, read: p.o.ReadTimeout, uses: udpUses, age: min(udpAge, p.o.Expire)}
		if f.age <= 0 {
			f.uses, f.age = 1, udpAge
		}
		c.fleets[u] = f
	}
	return f
}

func (f *fleet) push(e *errand) {
	e.prev, e.next = f.newest, nil
	if f.newest != nil {
		f.newest.next = e
	} else {
		f.oldest = e
	}
	f.newest = e
}

func (f *fleet) remove(e *errand) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		f.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		f.newest = e.prev
	}
	e.prev, e.next = nil, nil
}

// port returns a socket that takes one more query, drawn at random, or nil. Queries that
// are sent together share one: each further socket costs two system calls more.
func (c *Courier) port(f *fleet, o *Options, now time.Time) *port {
	if p := f.drawn; p != nil && f.takes(p, now) {
		f.up.on.connection("udp", true)
		return p
	}
	if n := len(f.ports); n >= fleetPorts {
		from := mrand.IntN(n)
		for i := n - 1; i >= 0; i-- {
			p := f.ports[(from+i)%n]
			switch {
			case f.takes(p, now):
				f.drawn = p
				f.up.on.connection("udp", true)
				return p
			case p.waiting < udpWaiting: // its time is over
				c.retire(p)
				i = -1
			}
		}
	}
	if f.all >= mostPorts {
		return nil
	}
	p, err := c.open(f, o.SourceAddr, now)
	if err != nil {
		return nil
	}
	f.up.on.connection("udp", false)
	return p
}

func (f *fleet) takes(p *port, now time.Time) bool {
	return !p.spent && p.waiting < udpWaiting && p.used < f.uses && now.Before(p.until)
}

// open opens a socket.
func (c *Courier) open(f *fleet, source netip.Addr, now time.Time) (*port, error) {
	to := f.up.Addr
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	reportUnreachable(fd, family == unix.AF_INET6)
	if source.IsValid() {
		err = unix.Bind(fd, sockaddrOf(netip.AddrPortFrom(source, 0)))
	}
	if err == nil {
		err = unix.Connect(fd, sockaddrOf(to))
	}
	number := uint32(len(c.ports))
	if n := len(c.empty); n > 0 {
		number = c.empty[n-1]
	}
	if err == nil {
		err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(number)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	p := &port{fd: fd, number: number, fleet: f, until: now.Add(f.age)}
	if int(number) == len(c.ports) {
		c.ports = append(c.ports, p)
	} else {
		c.empty = c.empty[:len(c.empty)-1]
		c.ports[number] = p
	}
	f.ports = append(f.ports, p)
	f.drawn = p
	f.all++
	c.due(p.until)
	return p, nil
}

func sockaddrOf(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if i, err := net.InterfaceByName(a.Addr().Zone()); err == nil {
		to.ZoneId = uint32(i.Index)
	}
	return to
}

// retire lets no more queries over the socket, and closes it when nobody waits.
func (c *Courier) retire(p *port) {
	if !p.spent {
		p.spent = true
		f := p.fleet
		for i := range f.ports {
			if f.ports[i] == p {
				last := len(f.ports) - 1
				f.ports[i] = f.ports[last]
				f.ports[last] = nil
				f.ports = f.ports[:last]
				break
			}
		}
	}
	c.closeIdle(p)
}

func (c *Courier) closeIdle(p *port) {
	if !p.spent || p.waiting > 0 || p.fd < 0 {
		return
	}
	unix.Close(p.fd) // which takes it out of the epoll set
	p.fd = -1
	c.ports[p.number] = nil
	c.empty = append(c.empty, p.number)
	p.fleet.all--
}

// Send sends what was begun since the last call.
func (c *Courier) Send(tell func(*Outcome)) {
	for i, p := range c.unsent {
		c.unsent[i] = nil
		switch left, err := c.mail.send(p); {
		case err != nil:
			// The kernel tells of an ICMP message once: nobody else on this socket would hear
			// of it.
			c.fail(p, err, tell)
		case len(left) > 0: // no room in the kernel's buffer
			for _, e := range left {
				c.lose(p, e, nil, tell)
			}
		}
		clear(p.out)
		p.out = p.out[:0]
		p.fleet.drawn = nil
	}
	c.unsent = c.unsent[:0]
}

// Receive tells what came of errands.
func (c *Courier) Receive(now time.Time, tell func(*Outcome)) {
	var events [16]unix.EpollEvent
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(c.epoll), uintptr(unsafe.Pointer(&events)), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return
	}
	for i := range events[:n] {
		if p := c.ports[events[i].Fd]; p != nil {
			c.collect(p, now, tell)
		}
	}
}

// collect takes what a socket has received.
func (c *Courier) collect(p *port, now time.Time, tell func(*Outcome)) {
	for p.fd >= 0 {
		n, err := c.mail.receive(p.fd)
		if err != nil {
			c.fail(p, err, tell)
			return
		}
		for i := range n {
			c.deliver(p, c.mail.packet(i), now, tell)
		}
		if n < mailPackets {
			return
		}
	}
}

// deliver gives a packet to the errand that it replies to.
func (c *Courier) deliver(p *port, packet []byte, now time.Time, tell func(*Outcome)) {
	if len(packet) >= headerSize {
		if e := p.slots[binary.BigEndian.Uint16(packet)%idSlots]; e != nil {
			l, v := inspect(packet, e.job.wire, e.job.question, e.id())
			switch v {
			case accept:
				c.answered(p, e, packet, l, now, tell)
				return
			case doubtful, otherCase:
				c.lose(p, e, errDoubtful, tell)
				return
			}
		}
	}
	p.fleet.up.on.ignored()
	if p.ignored++; p.ignored >= maxForeign {
		for _, e := range p.slots {
			if e != nil {
				c.lose(p, e, errDoubtful, tell) // over TCP, which no forger off the path can enter
			}
		}
		c.retire(p)
	}
}

func (c *Courier) answered(p *port, e *errand, packet []byte, l layout, now time.Time, tell func(*Outcome)) {
	c.leave(p, e)
	u := p.fleet.up
	u.answered(l.rcode, now.Sub(e.began))
	o := &c.outcome
	*o = Outcome{Token: e.token, packet: packet, e: e, layout: l, up: u, local: p.local}
	good := !e.pool.goesOn(l.rcode) && packet[2]&bitTC == 0
	if good {
		e.pool.learn(u, answered, "")
	}
	if good && !l.knowsNoEDNS() {
		e.job.got, e.job.from = reply{wire: packet[:l.end], layout: l}, u.Endpoint
		e.pool.flights.land(e.key, &e.led, &e.job, nil)
	} else {
		c.release(e)
	}
	tell(o)
	c.done(e)
}

// lose hands an errand back without a reply.
func (c *Courier) lose(p *port, e *errand, err error, tell func(*Outcome)) {
	c.leave(p, e)
	c.release(e)
	o := &c.outcome
	*o = Outcome{Token: e.token, e: e, up: p.fleet.up, err: err}
	tell(o)
	c.done(e)
}

// release ends the errand's flight without an outcome: those who wait ask anew.
func (c *Courier) release(e *errand) {
	e.pool.flights.land(e.key, &e.led, &e.job, &Failure{Err: context.Canceled})
}

func (c *Courier) leave(p *port, e *errand) {
	p.slots[e.id()%idSlots] = nil
	p.waiting--
	p.fleet.remove(e)
	c.flying--
	c.closeIdle(p)
}

// done takes the errand's memory back. The flight is off the table.
func (c *Courier) done(e *errand) {
	e.pool, e.port, e.led.passengers = nil, nil, nil
	c.free = append(c.free, e)
}

// fail gives up a socket whose upstream cannot be reached.
func (c *Courier) fail(p *port, err error, tell func(*Outcome)) {
	for _, e := range p.slots {
		if e == nil {
			continue
		}
		pool := e.pool
		pool.o.Observer.Failed(p.fleet.up.Endpoint, false)
		pool.learn(p.fleet.up, failed, Reason(err))
		c.lose(p, e, fmt.Errorf("forward: read from %s: %w", p.fleet.up.Addr, err), tell)
	}
	c.retire(p)
}

// Expire gives up what has waited for too long, and sockets whose time is over.
func (c *Courier) Expire(now time.Time, tell func(*Outcome)) {
	if c.next.IsZero() || now.Before(c.next) {
		return
	}
	c.next = time.Time{}
	for u, f := range c.fleets {
		for e := f.oldest; e != nil && !now.Before(e.deadline); e = f.oldest {
			p, pool := e.port, e.pool
			pool.o.Observer.Failed(u.Endpoint, true)
			pool.learn(u, failed, Reason(os.ErrDeadlineExceeded))
			c.lose(p, e, fmt.Errorf("forward: read from %s: %w", u.Addr, os.ErrDeadlineExceeded), tell)
			c.retire(p) // perhaps it is the path of this port
		}
		for i := len(f.ports) - 1; i >= 0; i-- {
			if p := f.ports[i]; !now.Before(p.until) {
				c.retire(p)
			} else {
				c.due(p.until)
			}
		}
		if f.oldest != nil {
			c.due(f.oldest.deadline)
		} else if f.all == 0 {
			delete(c.fleets, u)
		}
	}
}

// Close hands all errands back and closes the sockets.
func (c *Courier) Close(tell func(*Outcome)) {
	for _, f := range c.fleets {
		for e := f.oldest; e != nil; e = f.oldest {
			c.lose(e.port, e, nil, tell)
		}
	}
	for _, p := range c.ports {
		if p != nil {
			c.retire(p)
		}
	}
	unix.Close(c.epoll)
}

// mailbag is the memory of system calls that carry many packets.
type mailbag struct {
	in     [mailPackets]mmsghdr
	inVec  [mailPackets]unix.Iovec
	inMem  []byte
	out    [mailPackets]mmsghdr
	outVec [mailPackets]unix.Iovec
}

func newMailbag() *mailbag {
	m := &mailbag{inMem: make([]byte, mailPackets*courierSize)}
	for i := range m.in {
		m.inVec[i].Base = &m.inMem[i*courierSize]
		m.inVec[i].SetLen(courierSize)
		m.in[i].hdr.Iov = &m.inVec[i]
		m.in[i].hdr.SetIovlen(1)
		m.out[i].hdr.Iov = &m.outVec[i]
		m.out[i].hdr.SetIovlen(1)
	}
	return m
}

// receive takes what is there without waiting.
func (m *mailbag) receive(fd int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.in)), mailPackets, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

func (m *mailbag) packet(i int) []byte {
	return m.inMem[i*courierSize : i*courierSize+int(m.in[i].len)]
}

// send sends what the port has to send, and returns what the kernel had no room for.
func (m *mailbag) send(p *port) (left []*errand, err error) {
	out := p.out
	for len(out) > 0 {
		n := min(len(out), mailPackets)
		for i, e := range out[:n] {
			m.outVec[i].Base = &e.wire[0]
			m.outVec[i].SetLen(len(e.job.wire))
		}
		done, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&m.out)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			out = out[done:]
		case unix.EINTR:
		case unix.EAGAIN:
			return out, nil
		default:
			return out, errno
		}
	}
	return nil, nil
}
