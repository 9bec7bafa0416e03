package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// waiter is a query that waits for its reply on a connection. It belongs to the query's
// goroutine but for packet, n and err, which the connection's reader writes before it
// sends on done.
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

// free gives w back. No connection may know it any more.
func (w *waiter) free() {
	select {
	case <-w.done:
	default:
	}
	w.sent = nil
	if cap(w.packet) > smallPacket {
		w.packet = nil // one large reply is no reason to hold the memory
	}
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

// waitlist is the queries that wait on one connection, each under an id of its own. It is
// safe for concurrent use.
type waitlist struct {
	mu      sync.Mutex // guards what follows
	waiting map[uint16]*waiter
	used    int       // queries that ever entered
	last    time.Time // when one entered the empty list, or a reply came
	retired bool      // lets nobody else in
	ids     ids
}

// enter lets w wait under an id of its own, where fewer than uses ever did and fewer than
// room do. It says whether it does.
func (l *waitlist) enter(w *waiter, uses, room int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired || l.used >= uses || len(l.waiting) >= room {
		return false
	}
	for {
		id := l.ids.next()
		if _, taken := l.waiting[id]; !taken {
			w.id = id
			break
		}
	}
	if len(l.waiting) == 0 {
		l.last = time.Now()
	}
	l.used++
	l.waiting[w.id] = w
	return true
}

// leave ends the waiting of w. It says whether the reader was faster, so that w has its
// outcome, and whether nobody needs the connection any more.
func (l *waitlist) leave(w *waiter) (served, over bool) {
	l.mu.Lock()
	served = l.waiting[w.id] != w
	if !served {
		delete(l.waiting, w.id)
	}
	over = l.retired && len(l.waiting) == 0
	l.mu.Unlock()
	if served {
		<-w.done
	}
	return served, over
}

// retire lets nobody else in. It says whether nobody waits.
func (l *waitlist) retire() (over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
	return len(l.waiting) == 0
}

// over says whether the list is retired and nobody waits.
func (l *waitlist) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retired && len(l.waiting) == 0
}

// deliver gives a packet to the query that it replies to and returns what it is. Who
// waited for a doubtful one gets that error in its place; it may be nil, which accepts
// the reply but for its letters' case.
func (l *waitlist) deliver(packet []byte, doubt error) verdict {
	if len(packet) < headerSize {
		return foreign
	}
	id := binary.BigEndian.Uint16(packet)
	l.mu.Lock()
	w := l.waiting[id]
	v := foreign
	if w != nil {
		if v = match(packet, w.sent, w.question); v != foreign {
			delete(l.waiting, id)
			l.last = time.Now()
		}
	}
	l.mu.Unlock()
	switch {
	case v == foreign:
		return v
	case v == accept, doubt == nil:
		w.packet = append(w.packet[:0], packet...)
		w.n = len(packet)
	default:
		w.err = doubt
	}
	w.done <- struct{}{}
	return v
}

// fail retires the list and ends the waiting of all. It returns how many they were.
func (l *waitlist) fail(err error) int {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno // without the addresses, which the caller adds
	}
	l.mu.Lock()
	l.retired = true
	waiting := l.waiting
	l.waiting = map[uint16]*waiter{}
	l.mu.Unlock()
	for _, w := range waiting {
		w.err = err
		w.done <- struct{}{}
	}
	return len(waiting)
}
