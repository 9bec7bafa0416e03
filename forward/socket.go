package forward

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// socket is a connected UDP socket that several queries wait on. Its reader, the one
// goroutine in run, ends when the socket is retired and nobody waits.
type socket struct {
	conn  *net.UDPConn
	owner *udp
	local netip.AddrPort
	until time.Time
	gone  chan struct{} // closed when the reader has ended

	waitlist
	ignored int // packets that were nobody's reply; the reader's
}

func newSocket(c *net.UDPConn, owner *udp, now time.Time) *socket {
	s := &socket{
		conn: c, owner: owner, local: localOf(c.LocalAddr()), until: now.Add(owner.age),
		gone: make(chan struct{}), waitlist: waitlist{waiting: map[uint16]*waiter{}},
	}
	// Before run, so that it does not put off an end that is asked for at once.
	_ = c.SetReadDeadline(s.until)
	return s
}

// spent says whether the socket's time is over.
func (s *socket) spent(now time.Time) bool { return !now.Before(s.until) }

// enter lets w wait under an id of its own; false if the socket takes no more.
func (s *socket) enter(w *waiter) bool {
	return s.waitlist.enter(w, s.owner.uses, udpWaiting)
}

// busy says whether the socket takes no query now but will again.
func (s *socket) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.retired && s.used < s.owner.uses && len(s.waiting) >= udpWaiting && !s.spent(time.Now())
}

// leave ends the waiting of w. It says whether the reader was faster, so that w has its
// outcome.
func (s *socket) leave(w *waiter) (served bool) {
	served, over := s.waitlist.leave(w)
	if over {
		s.wake()
	}
	return served
}

// retire lets nobody else in, and ends the reader as soon as nobody waits. It says
// whether that is now.
func (s *socket) retire() bool {
	over := s.waitlist.retire()
	if over {
		s.wake()
	}
	return over
}

// wake has the reader look whether it is over.
func (s *socket) wake() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// run reads until the socket has served its time.
func (s *socket) run() {
	defer close(s.gone)
	defer s.conn.Close()
	defer s.owner.forget(s)
	in := newInbox(s.owner.size)
	defer in.free()
	for {
		n, err := in.receive(s.conn)
		if n > 0 {
			for i := range n {
				s.deliver(in.packet(i))
			}
			if s.over() {
				return
			}
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Its time is over: the last replies are waited for, and the last query wakes us.
			s.mu.Lock()
			s.retired = true
			idle := len(s.waiting) == 0
			if !idle {
				_ = s.conn.SetReadDeadline(time.Time{})
			}
			s.mu.Unlock()
			if idle {
				return
			}
			continue
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// deliver gives a packet to the query that it replies to, and ignores what is foreign.
// After too many of those the socket is under attack: it is given up, and who waits asks
// over TCP.
func (s *socket) deliver(packet []byte) {
	if s.waitlist.deliver(packet, errDoubtful) != foreign {
		return
	}
	s.owner.on.ignored()
	if s.ignored++; s.ignored >= maxForeign {
		s.fail(errDoubtful)
	}
}
