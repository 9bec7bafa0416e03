package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"time"
)

// udpUses is after how many queries a socket, and so a source port, is given up.
const udpUses = 32

// udp is plain DNS over UDP. Every query has a connected socket of its own while it
// waits, drawn at random from those that are idle or opened on a port that the kernel
// draws, and an id from the system's generator: a forger must guess both, and the
// kernel drops what comes from another address or port.
type udp struct {
	dial dialer
	idle *idle
	size int // of the largest reply asked for
	on   *counters
}

func newUDP(d dialer, o *Options, on *counters) *udp {
	return &udp{dial: d, idle: newIdle(o.Expire, o.MaxAge, o.MaxIdle, udpUses, mrand.IntN), size: int(o.EDNSSize), on: on}
}

func (u *udp) close() { u.idle.close() }

func (u *udp) exchange(ctx context.Context, r *request) (reply, error) {
	c := u.idle.take(time.Now())
	u.on.connection("udp", c != nil)
	if c != nil {
		got, err := u.use(ctx, c, r)
		if err == nil || errors.Is(err, errDoubtful) || isTimeout(err) || ctx.Err() != nil {
			return got, err
		}
		// The socket is bound to an address that the host had when it was opened, which may
		// be gone. A new one tells whether it is that.
		u.on.connection("udp", false)
	}
	raw, err := u.dial.udp(ctx)
	if err != nil {
		return reply{}, err
	}
	return u.use(ctx, &pooled{Conn: raw, created: time.Now()}, r)
}

// use asks over c and keeps it, or closes it after a failure: a late reply must not meet
// the socket's next query.
func (u *udp) use(ctx context.Context, c *pooled, r *request) (reply, error) {
	stop := interrupt(ctx, c)
	got, err := u.ask(c, r)
	if !stop() || err != nil {
		_ = c.Close()
		return got, err
	}
	u.idle.put(c, time.Now())
	return got, nil
}

func (u *udp) ask(c *pooled, r *request) (reply, error) {
	// What is larger than was asked for is cut by the kernel, cannot be read, and is asked
	// for again over TCP.
	buf := borrow(max(u.size, len(r.wire)))
	defer giveBack(buf)
	got := reply{local: localOf(c.LocalAddr())}

	id := newID()
	query := append((*buf)[:0], r.wire...)
	binary.BigEndian.PutUint16(query, id)
	if err := c.SetDeadline(r.deadline()); err != nil {
		return got, fmt.Errorf("forward: %s: %w", u.dial.addr, err)
	}
	if _, err := c.Write(query); err != nil {
		return got, fmt.Errorf("forward: write to %s: %w", u.dial.addr, err)
	}
	for range maxForeign {
		n, err := c.Read(*buf)
		if err != nil {
			return got, fmt.Errorf("forward: read from %s: %w", u.dial.addr, err)
		}
		m, v := inspect((*buf)[:n], r.msg, id)
		switch v {
		case accept:
			got.msg = m
			return got, nil
		case doubtful:
			return got, errDoubtful
		case foreign:
			u.on.ignored()
		}
	}
	return got, errDoubtful
}

// newID draws a message id.
func newID() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return binary.BigEndian.Uint16(b[:])
}

// isTimeout says whether err is a deadline's.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}
