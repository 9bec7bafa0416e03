package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// waiter is a query that waits for its reply on a socket. It belongs to the query's
// goroutine but for packet, n and err, which the socket's reader writes before it sends
// on done.
type waiter struct {
	id       uint16
	sent     []byte // the query
	question int    // end of its question
	packet   []byte // what came
	n        int
	err      error
	done     chan struct{} // 1 slot
	timer    *time.Timer
}

var waiters = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &waiter{done: make(chan struct{}, 1), timer: t}
}}

func newWaiter(r *request) *waiter {
	w := waiters.Get().(*waiter)
	w.sent, w.question, w.n, w.err = r.wire, r.question, 0, nil
	return w
}

// free gives w back. No socket may know it any more.
func (w *waiter) free() {
	select {
	case <-w.done:
	default:
	}
	w.sent = nil
	waiters.Put(w)
}

// wait waits for done, until ctx ends or the deadline passes.
func (w *waiter) wait(ctx context.Context, deadline time.Time) error {
	w.timer.Reset(time.Until(deadline))
	defer w.timer.Stop()
	if ctx.Done() == nil {
		select {
		case <-w.done:
			return nil
		case <-w.timer.C:
			return os.ErrDeadlineExceeded
		}
	}
	select {
	case <-w.done:
		return nil
	case <-w.timer.C:
		return os.ErrDeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// socket is a connected UDP socket that several queries wait on. Its reader, the one
// goroutine in run, ends when the socket is retired and nobody waits.
type socket struct {
	conn  *net.UDPConn
	owner *udp
	local netip.AddrPort
	until time.Time
	gone  chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards what follows
	waiting map[uint16]*waiter
	used    int
	retired bool
	ids     []byte // drawn and not used yet
	drawn   [64]byte
	ignored int // packets that were nobody's reply; the reader's
}

func newSocket(c *net.UDPConn, owner *udp, now time.Time) *socket {
	s := &socket{
		conn: c, owner: owner, local: localOf(c.LocalAddr()), until: now.Add(owner.age),
		gone: make(chan struct{}), waiting: make(map[uint16]*waiter),
	}
	// Before run, so that it does not put off an end that is asked for at once.
	_ = c.SetReadDeadline(s.until)
	return s
}

// spent says whether the socket's time is over.
func (s *socket) spent(now time.Time) bool { return !now.Before(s.until) }

// enter lets w wait under an id of its own; false if the socket takes no more.
func (s *socket) enter(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || s.used >= s.owner.uses || len(s.waiting) >= udpWaiting {
		return false
	}
	for {
		id := s.drawID()
		if _, taken := s.waiting[id]; !taken {
			w.id = id
			break
		}
	}
	s.used++
	s.waiting[w.id] = w
	return true
}

// drawID draws a message id, many at a time: the generator costs more to call than to
// run. The caller holds mu.
func (s *socket) drawID() uint16 {
	if len(s.ids) < 2 {
		_, _ = rand.Read(s.drawn[:]) // never fails: see crypto/rand
		s.ids = s.drawn[:]
	}
	id := binary.BigEndian.Uint16(s.ids)
	s.ids = s.ids[2:]
	return id
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
	s.mu.Lock()
	served = s.waiting[w.id] != w
	if !served {
		delete(s.waiting, w.id)
	}
	wake := s.retired && len(s.waiting) == 0
	s.mu.Unlock()
	if served {
		<-w.done
	}
	if wake {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return served
}

// retire lets nobody else in, and ends the reader as soon as nobody waits. It says
// whether that is now.
func (s *socket) retire() bool {
	s.mu.Lock()
	s.retired = true
	idle := len(s.waiting) == 0
	s.mu.Unlock()
	if idle {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return idle
}

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

// over says whether the socket is retired and nobody waits.
func (s *socket) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired && len(s.waiting) == 0
}

// deliver gives a packet to the query that it replies to, and ignores what is foreign.
// After too many of those the socket is under attack: it is given up, and who waits asks
// over TCP.
func (s *socket) deliver(packet []byte) {
	if len(packet) >= headerSize {
		id := binary.BigEndian.Uint16(packet)
		s.mu.Lock()
		w := s.waiting[id]
		v := foreign
		if w != nil {
			if v = match(packet, w.sent, w.question); v != foreign {
				delete(s.waiting, id)
			}
		}
		s.mu.Unlock()
		switch v {
		case accept:
			w.packet = append(w.packet[:0], packet...)
			w.n = len(packet)
			w.done <- struct{}{}
			return
		case doubtful, otherCase:
			w.err = errDoubtful
			w.done <- struct{}{}
			return
		}
	}
	s.owner.on.ignored()
	if s.ignored++; s.ignored >= maxForeign {
		s.fail(errDoubtful)
	}
}

// fail ends the socket for all who wait.
func (s *socket) fail(err error) {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno // without the addresses, which the caller adds
	}
	s.mu.Lock()
	s.retired = true
	waiting := s.waiting
	s.waiting = map[uint16]*waiter{}
	s.mu.Unlock()
	for _, w := range waiting {
		w.err = err
		w.done <- struct{}{}
	}
}
