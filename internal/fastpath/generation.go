package fastpath

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// Handler runs the chain for one query. The context carries the query's Verdict where
// the reply may be learnt. It returns whom to tell of the hits on the reply, or nil where
// the reply is not to be learnt whatever the Verdict says.
type Handler func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) Sink

// Config is one listener of one Corefile.
type Config struct {
	// ID tells the listeners of a table apart.
	ID uint16
	// Addr is the listener's address and port, neither 0. An unspecified address stands
	// for those of Hosts.
	Addr netip.AddrPort
	// Local is what the chain sees as the address that the query came to.
	Local net.Addr
	// Hosts returns the addresses to bind in the place of an unspecified one; it is
	// called now and then.
	Hosts func() []netip.Addr
	// Class returns the class of a client: those of one class get the same replies. nil
	// is one class for all.
	Class func(netip.Addr) uint32
	// Table is where replies are learnt.
	Table *Table
	// NewRelay returns the relay of one loop, or nil; nil is none for all.
	NewRelay func() Relay
	// Serve is the chain.
	Serve Handler
	// Watched says that replies may be learnt of whose repetitions somebody wants to be
	// told one by one.
	Watched bool
	// Tsig are the secrets of the listener, as dns.Server wants them.
	Tsig map[string]string
}

// Counts are what happened to the queries of a listener. They only grow.
type Counts struct {
	Hits, Misses, Relayed, Dropped uint64
}

// Generation is the listener under one Corefile.
type Generation struct {
	Config
	plane  *plane
	conn   *conn
	server *dns.Server
	done   chan error

	hits, misses, relayed, dropped atomic.Uint64

	ending atomic.Bool // no relay takes anything any more
	retire sync.Once
}

// Counts returns the counts.
func (g *Generation) Counts() Counts {
	return Counts{g.hits.Load(), g.misses.Load(), g.relayed.Load(), g.dropped.Load()}
}

// grace is how long the queries of a generation may take after it was replaced.
const grace = 5 * time.Second

// start runs the private server, which treats a query as the listener's own would.
func (g *Generation) start() {
	g.conn = newConn(g.Local)
	g.server = &dns.Server{
		PacketConn: g.conn, Net: "udp", TsigSecret: g.Tsig,
		Handler: dns.HandlerFunc(g.serve),
	}
	g.done = make(chan error, 1)
	started := make(chan struct{})
	g.server.NotifyStartedFunc = func() { close(started) }
	go func() { g.done <- g.server.ActivateAndServe() }()
	<-started
}

// stop answers what is under way and ends the private server.
func (g *Generation) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	g.conn.drain(ctx)
	err := g.server.ShutdownContext(ctx)
	if err == nil {
		err = <-g.done
	}
	return err
}

// miss hands the query to the private server.
func (g *Generation) miss(c *client) {
	if g.conn.push(c) {
		g.misses.Add(1)
	} else {
		g.dropped.Add(1)
	}
}

// serve is the private server's handler.
func (g *Generation) serve(w dns.ResponseWriter, r *dns.Msg) {
	c, ok := w.RemoteAddr().(*client)
	if !ok {
		return
	}
	out := &writer{ResponseWriter: w, client: c}
	if !c.plain {
		g.Serve(context.Background(), out, r)
		return
	}
	var v answer.Verdict
	ctx := answer.WithVerdict(context.Background(), &v)
	if c.begun != nil {
		ctx = answer.WithBegun(ctx, c.begun)
	}
	sink := g.Serve(ctx, out, r)
	share, ok := v.Shareable()
	if !ok || sink == nil || c.writes != 1 {
		return
	}
	g.learn(c, share, sink, v.Watches(), v.Limited())
}

// learn keeps the reply that was written to c, if it can be repeated and all who watch
// can be told.
func (g *Generation) learn(c *client, s answer.Shareable, sink Sink, watch []answer.Watch, by answer.Limit) {
	var q query
	if len(c.reply) == 0 || len(c.reply) > maxReply || !q.parse(c.query) {
		return
	}
	now := time.Now()
	e := &entry{epoch: s.Epoch, seen: s.Seen, sink: sink, until: clock(s.Until)}
	if s.Used != nil {
		e.sink = func(n uint32, took time.Duration) {
			sink(n, took)
			s.Used(n)
		}
	}
	var buf [maxKey]byte
	e.key = appendKey(buf[:0], g.ID, c.class, &q)
	if q.flags&flagMixed != 0 {
		// Only from a name in lower case it can be told what follows its spelling.
		return
	}
	w, ok := NewWatches(watch)
	if !ok || w != nil && !g.Watched {
		return
	}
	e.watches = w
	if !e.good(clock(now)) {
		return
	}
	ttls, spell, whole := layout(c.reply, e.key[keyPrefix:], nil, nil)
	if !whole {
		return
	}
	e.key = append([]byte(nil), e.key...)
	e.packet = append([]byte(nil), c.reply...)
	e.limit = newLimit(by, e.packet)
	if s.Echo {
		e.echo, e.spell = true, spell
	}
	if s.Aging {
		e.ttls, e.since = ttls, clock(s.Since)
		e.shown = uint32(s.At.Sub(s.Since) / time.Second)
	}
	if s.Random {
		if e.order = orderOf(e.packet, s.Weights); e.order == nil {
			e.draws = new(draws)
			e.draws.add(e)
		}
	}
	g.Table.put(e, clock(now))
}

// base is where the engine's clock begins; it is monotonic.
var base = time.Now()

func clock(t time.Time) int64 { return int64(t.Sub(base)) }

// writer is what the chain writes to.
type writer struct {
	dns.ResponseWriter
	client *client
}

// RemoteAddr implements dns.ResponseWriter with the type that plugins look for.
func (w *writer) RemoteAddr() net.Addr { return &w.client.udp }
