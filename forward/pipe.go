package forward

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// pipe is one connection of a stream transport, on which queries wait for replies that
// come in any order (RFC 7766, section 7). Its reader, the one goroutine in run, ends
// when the connection is closed.
type pipe struct {
	conn    net.Conn
	owner   *stream
	local   netip.AddrPort
	created time.Time
	gone    chan struct{} // closed when the reader has ended

	waitlist
	ignored, replies int // the reader's

	writing sync.Mutex // one query is written at a time
	broken  bool       // half a query may be on the connection: no other; guarded by writing

	used  time.Time // when a query was last done with it; guarded by the owner's mu
	fresh bool      // nobody joins it yet; of its first query's goroutine
}

func newPipe(c net.Conn, owner *stream) *pipe {
	return &pipe{
		conn: c, owner: owner, local: localOf(c.LocalAddr()), created: time.Now(), fresh: true, gone: make(chan struct{}),
		waitlist: waitlist{waiting: map[uint16]*waiter{}},
	}
}

// enter lets w wait, unless room queries do already.
func (p *pipe) enter(w *waiter, room int) bool {
	return p.waitlist.enter(w, math.MaxInt, room)
}

// load returns how many wait, and whether the pipe takes more: not while the upstream
// leaves all of them waiting, for it may answer in order.
func (p *pipe) load(now time.Time) (n int, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = len(p.waiting)
	return n, !p.retired && (n == 0 || now.Sub(p.last) < stalled)
}

// send writes one message with its length in one write, so that it is one segment (RFC
// 7766, section 8).
func (p *pipe) send(wire []byte, id uint16, deadline time.Time) error {
	buf := borrow(len(wire) + 2)
	defer giveBack(buf)
	out := binary.BigEndian.AppendUint16((*buf)[:0], uint16(len(wire)))
	out = append(out, wire...)
	binary.BigEndian.PutUint16(out[2:], id)
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.broken {
		return net.ErrClosed
	}
	if err := p.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := p.conn.Write(out)
	p.broken = err != nil
	return err
}

// run reads replies until the connection ends.
func (p *pipe) run() {
	defer close(p.gone)
	in := bufio.NewReaderSize(p.conn, smallPacket)
	for {
		if err := p.receive(in); err != nil {
			waiting := p.fail(err)
			_ = p.conn.Close()
			p.owner.forget(p, waiting)
			return
		}
	}
}

// receive reads one message and gives it to the query that waits for it.
func (p *pipe) receive(in *bufio.Reader) error {
	var size [2]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	buf := borrow(n)
	defer giveBack(buf)
	if _, err := io.ReadFull(in, (*buf)[:n]); err != nil {
		return err
	}
	switch p.deliver((*buf)[:n], nil) {
	case foreign:
		p.owner.on.ignored()
		if p.ignored++; p.ignored >= maxForeign {
			return errMalformed
		}
	case doubtful:
		return errMalformed // whom it was for finds that, too
	default:
		p.ignored = 0 // what came late for a query that was given up is no attack
		p.replies++
		p.owner.served(p.replies)
	}
	return nil
}

// shut closes the connection. Nobody may wait on it.
func (p *pipe) shut() {
	p.retire()
	_ = p.conn.Close()
}
