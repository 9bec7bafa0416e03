package forward

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxIdle bounds the connections of one kind that are kept to one upstream where the
	// configuration names no bound.
	maxIdle = 256
	// stalled is how long a connection may leave its queries without any reply before
	// others go past it.
	stalled = 250 * time.Millisecond
)

// stream is DNS over TCP (RFC 7766) or, with a TLS configuration, over TLS (RFC 7858).
// Connections are kept, and several queries share one as far as the upstream is known to
// bear it.
type stream struct {
	dial   dialer
	tls    *tls.Config   // nil: TCP
	proto  string        // "tcp" or "tcp-tls", the label
	expire time.Duration // without a query for so long: closed; 0 keeps none
	maxAge time.Duration // older take no query; 0: no bound
	max    int           // so many are kept without a query at most
	on     *counters

	mu     sync.Mutex // guards what follows
	pipes  []*pipe    // that take queries
	depth  depth
	timer  *time.Timer
	closed bool
}

func newStream(d dialer, cfg *tls.Config, o *Options, on *counters) *stream {
	s := &stream{dial: d, tls: cfg, proto: "tcp", expire: o.Expire, maxAge: o.MaxAge, max: o.MaxIdle, on: on}
	if s.max <= 0 || s.max > maxIdle {
		s.max = maxIdle
	}
	if cfg != nil {
		s.proto = "tcp-tls"
	}
	return s
}

// close closes what nobody waits on; the rest goes with its last query.
func (s *stream) close() {
	s.mu.Lock()
	s.closed = true
	pipes := s.pipes
	s.pipes = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, p := range pipes {
		if p.retire() {
			_ = p.conn.Close()
			<-p.gone
		}
	}
}

func (s *stream) exchange(ctx context.Context, r *request, g *reply) error {
	w := newWaiter(r)
	defer w.free()
	p := s.join(w, time.Now())
	s.on.connection(s.proto, p != nil)
	if p != nil {
		err := s.ask(ctx, p, w, r, g)
		if err == nil || isTimeout(err) || ctx.Err() != nil {
			return err
		}
		// The upstream closed it, as it may at any time (RFC 7766, section 6.2.4). The second
		// connection is a new one, so this ends.
		s.on.connection(s.proto, false)
		w.err = nil
	}
	p, err := s.open(ctx, w, r)
	if err != nil {
		return err
	}
	return s.ask(ctx, p, w, r, g)
}

// join lets w wait on the connection with the fewest queries, if there is one that takes
// it, the one used last among equals.
func (s *stream) join(w *waiter, now time.Time) *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	for range 2 { // what was chosen may have ended meanwhile
		var best *pipe
		least := s.depth.room()
		for _, p := range s.pipes {
			if n, open := p.load(now); open && (n < least || n == least && best != nil && p.used.After(best.used)) {
				best, least = p, n
			}
		}
		if best == nil {
			return nil
		}
		if best.enter(w, s.depth.room()) {
			return best
		}
	}
	return nil
}

// open connects within r.dial, and lets w wait. Nobody else joins it before the first
// reply is there: what an upstream does to several queries at once is not done to it.
func (s *stream) open(ctx context.Context, w *waiter, r *request) (*pipe, error) {
	c, err := s.connect(ctx, r)
	if err != nil {
		return nil, err
	}
	p := newPipe(c, s)
	p.enter(w, 1)
	go p.run()
	return p, nil
}

func (s *stream) connect(ctx context.Context, r *request) (net.Conn, error) {
	raw, err := s.dial.tcp(ctx, r.dial)
	if err != nil || s.tls == nil {
		return raw, err
	}
	secure := tls.Client(raw, s.tls)
	hctx, cancel := context.WithDeadline(ctx, r.dial)
	defer cancel()
	if err := secure.HandshakeContext(hctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("forward: tls handshake with %s: %w", s.dial.addr, err)
	}
	return secure, nil
}

// ask asks over p, which w waits on.
func (s *stream) ask(ctx context.Context, p *pipe, w *waiter, r *request, g *reply) error {
	g.local = p.local
	deadline := r.deadline()
	if err := p.send(r.wire, w.id, deadline); err != nil {
		// Half a query may be on it. Those that others sent may still be answered.
		p.leave(w)
		s.left(p, true)
		return fmt.Errorf("forward: write to %s: %w", s.dial.addr, err)
	}
	if err := w.wait(ctx, deadline); err != nil {
		if served, _ := p.leave(w); !served {
			s.left(p, ctx.Err() == nil)
			return fmt.Errorf("forward: read from %s: %w", s.dial.addr, err)
		}
	}
	s.rest(p)
	if w.err != nil {
		return fmt.Errorf("forward: read from %s: %w", s.dial.addr, w.err)
	}
	if r.take(g, w.packet[:w.n], w.id, true) != accept {
		s.left(p, true)
		return fmt.Errorf("%w from %s", errMalformed, s.dial.addr)
	}
	return nil
}

// served notes the nth reply on a connection.
func (s *stream) served(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.depth = s.depth.replied(n, time.Now())
}

// rest keeps p for other queries, or closes it where nobody waits on it and there is no
// room.
func (s *stream) rest(p *pipe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	p.used = now
	if p.fresh {
		p.fresh = false
		if s.closed || s.expire <= 0 {
			p.retire()
		} else if !p.over() {
			s.pipes = append(s.pipes, p)
		}
	}
	n, _ := p.load(now)
	if n > 0 {
		return
	}
	if p.over() {
		_ = p.conn.Close()
		return
	}
	idle := 0
	for _, o := range s.pipes {
		if n, _ := o.load(now); n == 0 {
			idle++
		}
	}
	if idle > s.max {
		s.drop(p)
		p.shut()
		return
	}
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(s.expire, s.tick)
	}
}

// left notes that a query gave p up. late says that its time was over: then nobody else
// joins it, for it may hang. A connection without a first reply is never joined.
func (s *stream) left(p *pipe, late bool) {
	if !late && !p.fresh {
		s.rest(p)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := p.load(time.Now())
	s.depth = s.depth.broke(n+1, time.Now())
	s.drop(p)
	if p.retire() {
		_ = p.conn.Close()
	}
}

// forget takes out a connection that ended and failed those who waited.
func (s *stream) forget(p *pipe, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.depth = s.depth.broke(waiting, time.Now())
	s.drop(p)
}

// drop takes p out. The caller holds mu.
func (s *stream) drop(p *pipe) {
	s.pipes = slices.DeleteFunc(s.pipes, func(o *pipe) bool { return o == p })
}

// sweep takes out what is old, and closes of it what nobody waits on. The caller holds mu.
func (s *stream) sweep(now time.Time) {
	s.pipes = slices.DeleteFunc(s.pipes, func(p *pipe) bool {
		n, _ := p.load(now)
		old := s.maxAge > 0 && now.Sub(p.created) >= s.maxAge || n == 0 && now.Sub(p.used) >= s.expire && !p.used.IsZero()
		if old && p.retire() {
			_ = p.conn.Close()
		}
		return old
	})
}

// tick closes what nobody used for too long.
func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if s.closed {
		return
	}
	s.sweep(time.Now())
	if len(s.pipes) > 0 {
		s.timer = time.AfterFunc(s.expire, s.tick)
	}
}
