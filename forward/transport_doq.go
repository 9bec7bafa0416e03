package forward

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

const doqALPN = "doq"

// doq is DNS over QUIC (RFC 9250): one connection to the upstream, one stream a query.
type doq struct {
	addr   netip.AddrPort
	source netip.Addr
	tls    *tls.Config
	expire time.Duration
	maxAge time.Duration
	on     *counters

	mu      sync.Mutex    // guards what follows
	current *doqConn      // nil: none yet, or the last one ended
	dialing chan struct{} // closed when the dial under way is over
	closed  bool
}

type doqConn struct {
	conn    *quic.Conn
	carrier *quic.Transport
	socket  *net.UDPConn
	created time.Time
	active  int  // queries under way
	retired bool // closes when active is 0
}

func newDoQ(e Endpoint, cfg *tls.Config, d dialer, o *Options, on *counters) *doq {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{doqALPN}
	cfg.MinVersion = tls.VersionTLS13
	return &doq{addr: e.Addr, source: d.source, tls: cfg, expire: o.Expire, maxAge: o.MaxAge, on: on}
}

func (q *doq) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.retire(q.current)
}

// retire takes c out of use. The caller holds mu.
func (q *doq) retire(c *doqConn) {
	if c == nil {
		return
	}
	if q.current == c {
		q.current = nil
	}
	if c.retired {
		return
	}
	c.retired = true
	if c.active == 0 {
		c.shut()
	}
}

func (c *doqConn) shut() {
	_ = c.conn.CloseWithError(0, "")
	_ = c.carrier.Close()
	_ = c.socket.Close()
}

// acquire returns the connection with one more query on it, and whether it is new.
func (q *doq) acquire(ctx context.Context, deadline time.Time) (*doqConn, bool, error) {
	for {
		q.mu.Lock()
		if c := q.current; c != nil {
			if c.conn.Context().Err() == nil && (q.maxAge <= 0 || time.Since(c.created) < q.maxAge) {
				c.active++
				q.mu.Unlock()
				q.on.connection("quic", true)
				return c, false, nil
			}
			q.retire(c)
		}
		if wait := q.dialing; wait != nil {
			q.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		}
		done := make(chan struct{})
		q.dialing = done
		q.mu.Unlock()

		q.on.connection("quic", false)
		c, err := q.open(ctx, deadline)
		q.mu.Lock()
		q.dialing = nil
		close(done)
		if err != nil {
			q.mu.Unlock()
			return nil, false, err
		}
		c.active = 1
		if q.closed || q.expire <= 0 {
			c.retired = true
		} else {
			q.current = c
		}
		q.mu.Unlock()
		// The upstream, or silence, ends the connection: its socket goes with it.
		context.AfterFunc(c.conn.Context(), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.retire(c)
		})
		return c, true, nil
	}
}

func (q *doq) open(ctx context.Context, deadline time.Time) (*doqConn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	network := "udp4"
	if q.addr.Addr().Is6() && !q.addr.Addr().Is4In6() {
		network = "udp6"
	}
	var local *net.UDPAddr
	if q.source.IsValid() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(q.source, 0))
	}
	socket, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, fmt.Errorf("forward: dial %s: %w", q.addr, err)
	}
	carrier := &quic.Transport{Conn: socket}
	conn, err := carrier.Dial(ctx, net.UDPAddrFromAddrPort(q.addr), q.tls, &quic.Config{
		HandshakeIdleTimeout:  time.Until(deadline),
		MaxIdleTimeout:        max(q.expire, time.Second),
		MaxIncomingStreams:    -1,
		MaxIncomingUniStreams: -1,
	})
	if err != nil {
		_ = carrier.Close()
		_ = socket.Close()
		return nil, fmt.Errorf("forward: quic handshake with %s: %w", q.addr, err)
	}
	return &doqConn{conn: conn, carrier: carrier, socket: socket, created: time.Now()}, nil
}

func (q *doq) release(c *doqConn, broken bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.active--
	if c.retired && c.active == 0 {
		c.shut()
		return
	}
	if broken {
		q.retire(c)
	}
}

func (q *doq) exchange(ctx context.Context, r *request, g *reply) error {
	for try := 0; ; try++ {
		c, fresh, err := q.acquire(ctx, r.dial)
		if err != nil {
			return err
		}
		err = q.ask(ctx, c, r, g)
		// A connection that ended while idle is replaced once; a timeout is the query's.
		// (The stream may hear of the end before the connection's context does.)
		var ended *quic.ApplicationError
		broken := err != nil && (c.conn.Context().Err() != nil || errors.As(err, &ended))
		q.release(c, broken)
		if broken && !fresh && try == 0 && ctx.Err() == nil && !isTimeout(err) {
			continue
		}
		return err
	}
}

func (q *doq) ask(ctx context.Context, c *doqConn, r *request, g *reply) error {
	g.local = localOf(c.socket.LocalAddr())
	ctx, cancel := context.WithDeadline(ctx, r.deadline())
	defer cancel()
	s, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return fmt.Errorf("forward: quic to %s: %w", q.addr, err)
	}
	// DOQ_REQUEST_CANCELLED (RFC 9250, section 4.3) if the reply is no longer awaited.
	defer s.CancelRead(3)
	_ = s.SetDeadline(r.deadline())
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	out := binary.BigEndian.AppendUint16(make([]byte, 0, len(r.wire)+2), uint16(len(r.wire)))
	out = append(out, r.wire...)
	if _, err := s.Write(out); err != nil {
		return fmt.Errorf("forward: quic to %s: %w", q.addr, err)
	}
	// The end of the stream is the end of the query (RFC 9250, section 4.2).
	if err := s.Close(); err != nil {
		return fmt.Errorf("forward: quic to %s: %w", q.addr, err)
	}
	var size [2]byte
	if _, err := io.ReadFull(s, size[:]); err != nil {
		return q.readError(err)
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	buf := borrow(n)
	defer giveBack(buf)
	in := (*buf)[:n]
	if _, err := io.ReadFull(s, in); err != nil {
		return q.readError(err)
	}
	if r.take(g, in, 0, true) != accept {
		return fmt.Errorf("%w from %s", errMalformed, q.addr)
	}
	return nil
}

func (q *doq) readError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w from %s: stream ended", errMalformed, q.addr)
	}
	return fmt.Errorf("forward: quic to %s: %w", q.addr, err)
}
