package fastpath

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLoops bounds the threads that answer; one of them does some 250,000 queries a
	// second.
	maxLoops = 8
	// maxHosts bounds the addresses that one wildcard listener is followed to.
	maxHosts = 64
	// rehost is how often a wildcard listener looks for new addresses.
	rehost = 5 * time.Second
)

// ErrUnsupported is what Adopt returns where there is no recvmmsg.
var ErrUnsupported = errors.New("fastpath: this system has no recvmmsg")

// ErrClosed is what Adopt returns after Close.
var ErrClosed = errors.New("fastpath: closed")

// Engine owns the sockets and threads of a process. Its methods are safe for concurrent
// use.
type Engine struct {
	log    *slog.Logger
	reader *reader

	mu     sync.Mutex // guards the rest
	loops  []*loop
	planes map[netip.AddrPort]*plane
	closed bool
	procs  int   // GOMAXPROCS before the loops had theirs
	spare  *ring // for what is answered with mu held, beside the loops
}

// New returns an engine without sockets or threads. log may be nil.
func New(log *slog.Logger) *Engine {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Engine{log: log, planes: map[netip.AddrPort]*plane{}, reader: newReader(log)}
}

// Lost returns how many repetitions watchers were not told of. It only grows.
func (e *Engine) Lost() uint64 { return e.reader.lost.Load() }

// Flush waits until watchers are told of what was answered before the call, for 5 s at
// most.
func (e *Engine) Flush() {
	e.mu.Lock()
	e.repoll(nil) // a client has its reply a moment before the loop has noted it
	e.mu.Unlock()
	e.reader.drain()
}

// plane is a listener as long as some Corefile wants it.
type plane struct {
	addr    netip.AddrPort
	gen     atomic.Pointer[Generation]
	sockets [][]*socket // by loop; guarded by the engine's mu
	stop    chan struct{}
	follow  sync.WaitGroup
}

// Adopt makes the listener answer by c from now on. Its first call for an address opens
// the sockets, which must be after the listener's own was opened. What a former
// generation has under way goes on; [Engine.Retire] waits for it.
func (e *Engine) Adopt(c Config) (*Generation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	g := &Generation{Config: c}
	p := e.planes[c.Addr]
	if p == nil {
		if err := e.startLoops(); err != nil {
			return nil, err
		}
		p = &plane{addr: c.Addr, sockets: make([][]*socket, len(e.loops)), stop: make(chan struct{})}
	}
	g.plane = p
	if c.Watched {
		e.reader.start()
	}
	g.start()
	was := p.gen.Swap(g)
	if was != nil {
		return g, nil
	}
	if err := e.open(p); err != nil {
		p.gen.Store(nil)
		_ = g.stop()
		if len(e.planes) == 0 {
			e.stopLoops()
		}
		return nil, err
	}
	e.planes[c.Addr] = p
	if c.Addr.Addr().IsUnspecified() {
		p.follow.Go(func() { e.followHosts(p) })
	}
	return g, nil
}

// open opens the sockets of a plane that has none.
func (e *Engine) open(p *plane) error {
	if p.addr.Addr().IsUnspecified() {
		e.rehost(p)
		return nil
	}
	return e.bind(p, p.addr, true)
}

// bind adds a socket on the address to each loop. shared says that the listener's own
// socket is on the same address.
func (e *Engine) bind(p *plane, addr netip.AddrPort, shared bool) error {
	var all []*socket
	for range e.loops {
		s, err := openSocket(p, addr)
		if err != nil {
			for _, s := range all {
				s.close()
			}
			return fmt.Errorf("fastpath: bind %s: %w", addr, err)
		}
		all = append(all, s)
	}
	if shared {
		// Until the program is there the kernel spreads the packets, and CoreDNS answers
		// its share.
		if err := steer(all[0].fd, len(all), true); err != nil {
			e.log.Warn("packets cannot be steered to the fast path: some take the slower one", "address", addr.String(), "error", err)
		}
	}
	for i, s := range all {
		p.sockets[i] = append(p.sockets[i], s)
	}
	e.repoll(p)
	return nil
}

// repoll tells the loops of their sockets, those of p among them though it be new, and
// waits until they look at no others and every packet they began with is done.
func (e *Engine) repoll(p *plane) {
	var waits []<-chan struct{}
	for i, l := range e.loops {
		var all []*socket
		for _, o := range e.planes {
			if o != p {
				all = append(all, o.sockets[i]...)
			}
		}
		if p != nil {
			all = append(all, p.sockets[i]...)
		}
		waits = append(waits, l.poll(all))
	}
	for _, w := range waits {
		<-w
	}
}

// rehost opens sockets on what the host has of addresses and closes those on others.
func (e *Engine) rehost(p *plane) {
	g := p.gen.Load()
	if g == nil || g.Hosts == nil {
		return
	}
	want := g.Hosts()
	if len(want) > maxHosts {
		want = want[:maxHosts]
	}
	have := map[netip.Addr]bool{}
	var gone []*socket
	for i, row := range p.sockets {
		kept := row[:0:0]
		for _, s := range row {
			if slices.Contains(want, s.addr.Addr()) {
				kept = append(kept, s)
				have[s.addr.Addr()] = true
			} else {
				gone = append(gone, s)
			}
		}
		p.sockets[i] = kept
	}
	if len(gone) > 0 {
		for _, s := range gone {
			s.release()
		}
		e.repoll(p)
		e.rest(gone)
		for _, s := range gone {
			s.close()
		}
	}
	for _, a := range want {
		if have[a] {
			continue
		}
		if err := e.bind(p, netip.AddrPortFrom(a, p.addr.Port()), false); err != nil {
			// It may be tentative, or taken: the listener's own socket has it meanwhile.
			e.log.Debug("address without fast path", "address", a.String(), "error", err)
		}
	}
}

func (e *Engine) followHosts(p *plane) {
	tick := time.NewTicker(rehost)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			e.mu.Lock()
			if e.planes[p.addr] == p {
				e.rehost(p)
			}
			e.mu.Unlock()
		}
	}
}

// Retire ends a generation: it waits for the queries that it has under way. Where no
// other has taken over, its sockets close after what waits in them is answered.
func (e *Engine) Retire(g *Generation) error {
	var err error
	g.retire.Do(func() {
		e.mu.Lock()
		g.ending.Store(true) // whose relays the loops end with their next set of sockets
		last := g.plane.gen.Load() == g
		if last {
			e.shut(g.plane)
		} else {
			e.repoll(nil) // nobody pushes to g when this returns
		}
		e.mu.Unlock()
		if last {
			g.plane.follow.Wait()
		}
		err = g.stop()
		e.reader.drain()
		if last {
			for _, row := range g.plane.sockets {
				for _, s := range row {
					s.close()
				}
			}
			e.mu.Lock()
			if len(e.planes) == 0 {
				e.stopLoops()
			}
			e.mu.Unlock()
		}
	})
	return err
}

// shut takes the plane's sockets from the loops, after the packets in them.
func (e *Engine) shut(p *plane) {
	close(p.stop)
	var all []*socket
	for i, row := range p.sockets {
		for _, s := range row {
			if s.addr != p.addr {
				s.release()
			} else if i == 0 {
				_ = steer(s.fd, 0, false) // what fails here only leaves more to drain
			}
			all = append(all, s)
		}
	}
	delete(e.planes, p.addr)
	e.repoll(nil)
	e.rest(all)
}

// rest answers what waits in sockets that no loop polls and that get no more.
func (e *Engine) rest(all []*socket) {
	for range 2 {
		for _, s := range all {
			e.loops[0].rest(s, e.spare)
		}
		// A packet whose socket was chosen before may still be on its way into it.
		<-time.After(time.Millisecond)
	}
}

func (e *Engine) startLoops() error {
	if len(e.loops) > 0 {
		return nil
	}
	n := min(max(runtime.GOMAXPROCS(0)/2, 1), maxLoops)
	for range n {
		l, err := newLoop(e.reader)
		if err != nil {
			e.stopLoops()
			return err
		}
		l.start()
		e.loops = append(e.loops, l)
	}
	e.spare = e.reader.ring()
	// A loop holds its P while it waits for the next packet of many.
	e.procs = runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	return nil
}

func (e *Engine) stopLoops() {
	for _, l := range e.loops {
		l.stop()
	}
	e.reader.stop()
	if e.procs > 0 {
		runtime.GOMAXPROCS(e.procs)
		e.procs = 0
	}
	e.loops = nil
}

// Close retires what is left.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	var left []*Generation
	for _, p := range e.planes {
		left = append(left, p.gen.Load())
	}
	e.mu.Unlock()
	var errs []error
	for _, g := range left {
		errs = append(errs, e.Retire(g))
	}
	return errors.Join(errs...)
}
