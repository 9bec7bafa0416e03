package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// udpUses is after how many queries a socket, and so a source port, is given up, and
	// udpAge after how long: who looks for an open port of ours by trying has that long.
	udpUses = 1024
	udpAge  = time.Second
	// udpWaiting is how many queries wait on one socket at most: as many replies fit into
	// the kernel's buffer of usual size.
	udpWaiting = 128
)

// udp is plain DNS over UDP. Queries share a few connected sockets, each on a port that
// the kernel draws and given up soon; a query goes over one drawn at random, under an id
// from the system's generator that no other query on that socket has. A forger must
// guess both, and the kernel drops what comes from another address or port.
type udp struct {
	dial dialer
	size int // of the largest reply asked for
	uses int
	age  time.Duration
	max  int
	on   *counters

	mu     sync.Mutex // guards what follows
	socks  []*socket  // that take queries
	closed bool
}

func newUDP(d dialer, o *Options, on *counters) *udp {
	u := &udp{dial: d, size: int(o.EDNSSize), uses: udpUses, age: min(udpAge, o.Expire), max: o.MaxIdle, on: on}
	if u.max <= 0 || u.max > maxIdle {
		u.max = maxIdle
	}
	if u.age <= 0 {
		u.uses = 1
	}
	return u
}

// close gives up all sockets. Those that nobody waits on are gone when it returns, the
// others with their last query.
func (u *udp) close() {
	u.mu.Lock()
	u.closed = true
	socks := u.socks
	u.socks = nil
	u.mu.Unlock()
	for _, s := range socks {
		if s.retire() {
			<-s.gone
		}
	}
}

func (u *udp) exchange(ctx context.Context, r *request, g *reply) error {
	w := newWaiter(r)
	defer w.free()
	for try := 0; ; try++ {
		w.err = nil
		s, reused, err := u.socket(ctx, w)
		if err != nil {
			return err
		}
		u.on.connection("udp", reused)
		err = u.ask(ctx, s, w, r, g)
		if err == nil || !reused || try > 0 || errors.Is(err, errDoubtful) || isTimeout(err) || ctx.Err() != nil {
			return err
		}
		// The socket is bound to an address that the host had when it was opened, which may
		// be gone. A new one tells whether it is that.
	}
}

// socket returns a socket that w waits on from here on.
func (u *udp) socket(ctx context.Context, w *waiter) (s *socket, reused bool, err error) {
	now := time.Now()
	u.mu.Lock()
	for len(u.socks) > 0 {
		i := mrand.IntN(len(u.socks))
		s := u.socks[i]
		if !s.spent(now) && s.enter(w) {
			u.mu.Unlock()
			return s, true, nil
		}
		if s.busy() {
			// Full for now. Another may be drawn or opened; this one is drawn again later.
			break
		}
		u.drop(i)
		defer s.retire()
	}
	u.mu.Unlock()
	raw, err := u.dial.udp(ctx)
	if err != nil {
		return nil, false, err
	}
	s = newSocket(raw.(*net.UDPConn), u, now)
	s.enter(w)
	u.mu.Lock()
	kept := !u.closed && u.uses > 1 && len(u.socks) < u.max
	if kept {
		u.socks = append(u.socks, s)
	}
	u.mu.Unlock()
	if !kept {
		s.retire()
	}
	go s.run()
	return s, false, nil
}

// drop takes a socket out. The caller holds mu.
func (u *udp) drop(i int) {
	last := len(u.socks) - 1
	u.socks[i] = u.socks[last]
	u.socks[last] = nil
	u.socks = u.socks[:last]
}

// forget takes a socket out that can no longer be used.
func (u *udp) forget(s *socket) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.socks {
		if u.socks[i] == s {
			u.drop(i)
			return
		}
	}
}

func (u *udp) ask(ctx context.Context, s *socket, w *waiter, r *request, g *reply) error {
	g.local = s.local
	buf := borrow(len(r.wire))
	query := append((*buf)[:0], r.wire...)
	binary.BigEndian.PutUint16(query, w.id)
	_, err := s.conn.Write(query)
	giveBack(buf)
	if err != nil {
		s.leave(w)
		if unreachable(err) {
			// The kernel tells it once: nobody else on this socket would hear of it.
			s.fail(err)
		}
		s.retire()
		return fmt.Errorf("forward: write to %s: %w", u.dial.addr, err)
	}
	if err := w.wait(ctx, r.deadline()); err != nil && !s.leave(w) {
		if ctx.Err() == nil {
			s.retire() // perhaps it is the path of this port
		}
		return fmt.Errorf("forward: read from %s: %w", u.dial.addr, err)
	}
	if w.err != nil {
		if errors.Is(w.err, errDoubtful) {
			return errDoubtful
		}
		return fmt.Errorf("forward: read from %s: %w", u.dial.addr, w.err)
	}
	// The id and the question are right. What was cut by the kernel for being larger than
	// was asked for, or cannot be read, is asked for again over TCP.
	if r.take(g, w.packet[:w.n], w.id, false) != accept {
		return errDoubtful
	}
	return nil
}

// unreachable says whether err is what the kernel made of an ICMP message.
func unreachable(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isTimeout says whether err is a deadline's.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}
