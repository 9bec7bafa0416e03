package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// HubConfig says what a hub relays and to whom. View and Store are required.
type HubConfig struct {
	// View is the process's own view; a batch is applied to it before it is published.
	View *registry.View
	// Store is the identity of the store that the view shows.
	Store uint64
	// Node is this node's name, for people.
	Node string
	// UIDs are the users that may follow, beside root and the process's own.
	UIDs []int
	// Log takes who comes and goes; default slog.Default().
	Log *slog.Logger
	// RingBytes and RingFrames bound what is kept for resuming, default 16 MiB and 8,192.
	RingBytes, RingFrames int
	// Tick is how often a follower with nothing new hears of it, default one second.
	Tick time.Duration
	// Patience is how long a follower may take to read one write of at most 1 MiB before
	// it is cut, default 10 s.
	Patience time.Duration
	// MaxFollowers bounds the connections, default 64.
	MaxFollowers int
	// Now is the clock that followers are told; default time.Now.
	Now func() time.Time
}

// Hub relays one view to its followers.
type Hub struct {
	cfg   HubConfig
	log   *slog.Logger
	ring  *ring
	whole chan struct{} // bounds how many get everything at once

	mu        sync.Mutex // guards followers and acked
	followers map[*peer]struct{}
	acked     chan struct{} // closed when a follower acknowledges or goes
	wholes    atomic.Uint64
	cuts      atomic.Uint64
}

// peer is one follower's connection.
type peer struct {
	conn  net.Conn
	name  string
	since time.Time
	acked atomic.Uint64
	// live says that it is up to date but for what is under way: writers wait for it.
	live atomic.Bool
}

// Peer is what a hub knows of a follower.
type Peer struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	// Acked is the revision that the follower last said its view shows.
	Acked uint64 `json:"acked"`
}

const (
	chunk           = 1 << 20 // of everything, and of one write
	helloWait       = 5 * time.Second
	maxFromFollower = 64 << 10
	maxWholes       = 4
	// liveWithin is by how many revisions a follower may be late and yet be waited for.
	liveWithin = 64
)

// NewHub returns a hub that has nothing to relay before the first whole batch.
func NewHub(cfg HubConfig) *Hub {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.RingBytes <= 0 {
		cfg.RingBytes = 16 << 20
	}
	if cfg.RingFrames <= 0 {
		cfg.RingFrames = 8192
	}
	if cfg.Tick <= 0 {
		cfg.Tick = time.Second
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.MaxFollowers <= 0 {
		cfg.MaxFollowers = 64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Hub{
		cfg: cfg, log: cfg.Log, ring: newRing(cfg.RingBytes, cfg.RingFrames),
		whole: make(chan struct{}, maxWholes), followers: map[*peer]struct{}{}, acked: make(chan struct{}),
	}
}

// Publish relays a batch that the view shows already. Batches come in the order of their
// revisions, from one goroutine. It does not wait for any follower.
func (h *Hub) Publish(b registry.Batch) {
	if b.Whole {
		h.ring.restart(b.Revision)
		return
	}
	h.ring.add(b.Revision, func(previous uint64) []byte {
		b.Serial = 0
		return appendRecords(make([]byte, 0, encodedLen(b)), previous, b)
	})
}

func encodedLen(b registry.Batch) int {
	n := 64
	for _, r := range b.Records {
		n += recordLen(r)
	}
	return n
}

// Peers returns the followers that are connected, by name.
func (h *Hub) Peers() []Peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Peer, 0, len(h.followers))
	for p := range h.followers {
		out = append(out, Peer{Name: p.name, Since: p.since, Acked: p.acked.Load()})
	}
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Serve accepts followers until the context ends; then it says goodbye to each, closes
// the listener and waits for all of them.
func (h *Hub) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	slots := make(chan struct{}, h.cfg.MaxFollowers)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			h.log.Warn("relay: accept", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // out of descriptors, most likely
			}
			continue
		}
		if err := admit(c, h.cfg.UIDs); err != nil {
			h.log.Warn("relay: follower refused", "error", err)
			c.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			h.log.Warn("relay: follower refused, there are too many", "followers", h.cfg.MaxFollowers)
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			h.serve(ctx, c)
		})
	}
}

// serve is one follower's connection from its hello to its end.
func (h *Hub) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	r := newReader(c, maxFromFollower)
	hi, err := readHello(c, r)
	if err != nil {
		h.log.Warn("relay: no hello from a follower", "error", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &peer{conn: c, name: hi.name, since: h.cfg.Now()}
	p.acked.Store(hi.revision)
	h.mu.Lock()
	h.followers[p] = struct{}{}
	h.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		h.listen(p, r)
	})
	err = h.send(ctx, p, hi)
	h.mu.Lock()
	delete(h.followers, p)
	h.mu.Unlock()
	h.heard()
	c.Close()
	wg.Wait()
	switch {
	case errors.Is(err, errSlow):
		h.cuts.Add(1)
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		err = nil // it left while something was on its way
	}
	if err != nil {
		h.log.Warn("relay: follower cut", "follower", hi.name, "acked", p.acked.Load(), "error", err)
		return
	}
	h.log.Info("relay: follower left", "follower", hi.name, "acked", p.acked.Load())
}

func readHello(c net.Conn, r *reader) (hello, error) {
	if err := c.SetReadDeadline(time.Now().Add(helloWait)); err != nil {
		return hello{}, err
	}
	t, payload, err := r.next()
	if err != nil {
		return hello{}, err
	}
	if t != typeHello {
		return hello{}, fmt.Errorf("%w: type %d in place of a hello", ErrDamaged, t)
	}
	h, err := parseHello(payload)
	if err != nil {
		return hello{}, err
	}
	return h, c.SetReadDeadline(time.Time{})
}

// listen takes a follower's acknowledgements until the connection ends.
func (h *Hub) listen(p *peer, r *reader) {
	for {
		t, payload, err := r.next()
		if err != nil {
			return
		}
		if t != typeAck {
			continue
		}
		if rev, err := parseNumber(payload); err == nil {
			p.acked.Store(rev)
			if rev+liveWithin >= h.newest() {
				p.live.Store(true)
			}
			h.heard()
		}
	}
}

var errSlow = errors.New("relay: the follower does not read")

// send brings a follower up to date and keeps it so.
func (h *Hub) send(ctx context.Context, p *peer, hi hello) error {
	for {
		ready, changed := h.ring.state()
		if ready {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	at, ok := uint64(0), false
	if hi.store == h.cfg.Store && hi.revision != 0 {
		at, ok = h.ring.place(hi.revision)
	}
	now := h.cfg.View.Load().Revision
	h.log.Info("relay: follower", "follower", hi.name, "has", hi.revision, "newest", now, "resumes", ok)
	if err := h.write(p, appendWelcome(nil, welcome{version: Version, store: h.cfg.Store, revision: now, node: h.cfg.Node})); err != nil {
		return err
	}
	t := time.NewTicker(h.cfg.Tick)
	defer t.Stop()
	for {
		if !ok {
			var err error
			if at, ok, err = h.sendWhole(ctx, p); err != nil || ctx.Err() != nil {
				return err
			}
			continue
		}
		frames, next, revision, more, in := h.ring.from(at, chunk)
		if ok = in; !ok {
			h.log.Warn("relay: follower is too slow, it gets everything anew", "follower", hi.name)
			continue
		}
		if len(frames) > 0 {
			if err := h.write(p, frames...); err != nil {
				return err
			}
			at = next
			continue
		}
		select {
		case <-more:
		case <-t.C:
			if err := h.write(p, appendTick(nil, tick{revision, h.cfg.Now()})); err != nil {
				return err
			}
		case <-ctx.Done():
			return h.write(p, appendFrame(nil, typeBye, func(b []byte) []byte { return b }))
		}
	}
}

// sendWhole sends everything, and returns the place in the ring where it goes on.
func (h *Hub) sendWhole(ctx context.Context, p *peer) (uint64, bool, error) {
	select {
	case h.whole <- struct{}{}:
		defer func() { <-h.whole }()
	case <-ctx.Done():
		return 0, false, nil
	}
	h.wholes.Add(1)
	b := h.cfg.View.Records()
	buf := appendBegin(nil, begin{store: h.cfg.Store, revision: b.Revision, count: uint64(len(b.Records))})
	for rest := b.Records; len(rest) > 0; {
		if buf, rest = appendPart(buf, rest, chunk); len(buf) > chunk {
			if err := h.write(p, buf); err != nil {
				return 0, false, err
			}
			buf = buf[:0]
		}
		if ctx.Err() != nil {
			return 0, false, nil
		}
	}
	if err := h.write(p, appendNumber(buf, typeWholeEnd, uint64(len(b.Records)))); err != nil {
		return 0, false, err
	}
	// The view may be a step ahead of the ring: what comes is dropped by the follower
	// where it has it.
	at, ok := h.ring.place(min(b.Revision, h.newest()))
	return at, ok, nil
}

func (h *Hub) newest() uint64 {
	h.ring.mu.Lock()
	defer h.ring.mu.Unlock()
	return h.ring.revision
}

// write sends within the hub's patience.
func (h *Hub) write(p *peer, frames ...[]byte) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(h.cfg.Patience)); err != nil {
		return err
	}
	bufs := net.Buffers(frames)
	_, err := bufs.WriteTo(p.conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	return err
}
