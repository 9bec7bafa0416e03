package fastpath

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// maxWaiting bounds the queries that wait for the private server to take them, which it
// does without doing anything else.
const maxWaiting = 4096

// client is a query on its way through the chain, and as a net.Addr the way back.
type client struct {
	udp    net.UDPAddr
	socket *socket
	to     sockaddr
	query  []byte // the packet
	plain  bool
	class  uint32
	begun  any // what a relay learnt, for the chain

	// Of the goroutine that runs the chain.
	reply  []byte
	writes int
}

// Network implements net.Addr.
func (c *client) Network() string { return "udp" }

// String implements net.Addr.
func (c *client) String() string { return c.udp.String() }

// conn is a PacketConn whose packets the engine's loops read.
type conn struct {
	local net.Addr
	in    chan *client
	stop  chan struct{}
	once  sync.Once
}

func newConn(local net.Addr) *conn {
	return &conn{local: local, in: make(chan *client, maxWaiting), stop: make(chan struct{})}
}

// push takes a query, and says no where too many wait.
func (c *conn) push(q *client) bool {
	select {
	case c.in <- q:
		return true
	default:
		return false
	}
}

// drain waits until nothing waits; nobody may push any more.
func (c *conn) drain(ctx context.Context) {
	for len(c.in) > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case q := <-c.in:
		return copy(p, q.query), q, nil
	default:
	}
	select {
	case q := <-c.in:
		return copy(p, q.query), q, nil
	case <-c.stop:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// WriteTo implements net.PacketConn.
func (c *conn) WriteTo(p []byte, to net.Addr) (int, error) {
	q, ok := to.(*client)
	if !ok {
		return 0, net.ErrWriteToConnected
	}
	q.writes++
	if q.plain && q.writes == 1 && len(p) <= maxReply {
		q.reply = p // packed for this write, nobody else's
	}
	n, err := q.socket.send(p, &q.to)
	if err != nil {
		// As a UDPConn says it: callers tell by the type that only the client is lost.
		return n, &net.OpError{Op: "write", Net: "udp", Source: c.local, Addr: &q.udp, Err: err}
	}
	return n, nil
}

// SetReadDeadline implements net.PacketConn for what dns.Server does with it: a moment
// in the past ends the reading, others do nothing.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(base) {
		c.once.Do(func() { close(c.stop) })
	}
	return nil
}

// Close implements net.PacketConn.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.stop) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// SetDeadline implements net.PacketConn.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
