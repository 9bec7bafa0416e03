package forward

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// stream is DNS over TCP (RFC 7766) or, with a TLS configuration, over TLS (RFC 7858).
// A connection serves one query at a time and is kept for the next. Queries are not
// pipelined: an upstream may answer out of order or drop the connection, and a query
// would suffer for another's name.
type stream struct {
	dial  dialer
	tls   *tls.Config // nil: TCP
	proto string      // "tcp" or "tcp-tls", the label
	idle  *idle
	on    *counters
}

func newStream(d dialer, cfg *tls.Config, o *Options, on *counters) *stream {
	s := &stream{dial: d, tls: cfg, proto: "tcp", idle: newIdle(o.Expire, o.MaxAge, o.MaxIdle, 0, nil), on: on}
	if cfg != nil {
		s.proto = "tcp-tls"
	}
	return s
}

func (s *stream) close() { s.idle.close() }

func (s *stream) exchange(ctx context.Context, r *request, g *reply) error {
	c := s.idle.take(time.Now())
	s.on.connection(s.proto, c != nil)
	if c != nil {
		err := s.use(ctx, c, r, g)
		if err == nil || isTimeout(err) || ctx.Err() != nil {
			return err
		}
		// The upstream closed it while it was idle, as it may at any time (RFC 7766,
		// section 6.2.4). The second connection is a new one, so this ends.
		s.on.connection(s.proto, false)
	}
	c, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	return s.use(ctx, c, r, g)
}

// open connects, with the TLS handshake, within r.dial.
func (s *stream) open(ctx context.Context, r *request) (*pooled, error) {
	raw, err := s.dial.tcp(ctx, r.dial)
	if err != nil {
		return nil, err
	}
	if s.tls == nil {
		return &pooled{Conn: raw, created: time.Now()}, nil
	}
	secure := tls.Client(raw, s.tls)
	hctx, cancel := context.WithDeadline(ctx, r.dial)
	defer cancel()
	if err := secure.HandshakeContext(hctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("forward: tls handshake with %s: %w", s.dial.addr, err)
	}
	return &pooled{Conn: secure, created: time.Now()}, nil
}

// use asks over c and keeps it, or closes it after a failure.
func (s *stream) use(ctx context.Context, c *pooled, r *request, g *reply) error {
	stop := interrupt(ctx, c)
	err := s.ask(c, r, g)
	if !stop() || err != nil {
		_ = c.Close()
		return err
	}
	s.idle.put(c, time.Now())
	return nil
}

func (s *stream) ask(c *pooled, r *request, g *reply) error {
	g.local = localOf(c.LocalAddr())
	id := newID()
	if err := c.SetDeadline(r.deadline()); err != nil {
		return fmt.Errorf("forward: %s: %w", s.dial.addr, err)
	}
	if err := s.send(c, r.wire, id); err != nil {
		return fmt.Errorf("forward: write to %s: %w", s.dial.addr, err)
	}
	for range maxForeign {
		v, err := s.receive(c, r, g, id)
		switch {
		case err != nil:
			return fmt.Errorf("forward: read from %s: %w", s.dial.addr, err)
		case v == accept:
			return nil
		case v == doubtful:
			return fmt.Errorf("%w from %s", errMalformed, s.dial.addr)
		}
		s.on.ignored()
	}
	return fmt.Errorf("%w from %s", errMalformed, s.dial.addr)
}

// send writes one message with its length in one write, so that it is one segment (RFC
// 7766, section 8).
func (s *stream) send(c net.Conn, wire []byte, id uint16) error {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, len(wire)+2), uint16(len(wire)))
	out = append(out, wire...)
	binary.BigEndian.PutUint16(out[2:], id)
	_, err := c.Write(out)
	return err
}

// receive reads one message and takes it if it is the reply.
func (s *stream) receive(c net.Conn, r *request, g *reply, id uint16) (verdict, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return foreign, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	buf := borrow(n)
	defer giveBack(buf)
	if _, err := io.ReadFull(c, (*buf)[:n]); err != nil {
		return foreign, err
	}
	return r.take(g, (*buf)[:n], id, true), nil
}
