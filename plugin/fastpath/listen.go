package fastpath

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/internal/fastpath"
	"github.com/resolverd/resolverd/internal/hostnet"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/plugin/horizon"
)

var log = clog.NewWithPlugin(pluginName)

// current is the Corefile whose listeners answer, for status and metrics.
var current atomic.Pointer[corefile]

// start audits the blocks and listeners once their chains are built. It runs before the
// listeners open.
func (f *corefile) start() error {
	registerMetrics()
	if err := f.place(); err != nil {
		return err
	}
	for _, b := range f.blocks {
		b.reason = b.audit()
	}
	wild := false
	for _, l := range f.listeners {
		if l.reason = l.audit(); l.reason == "" && l.addr.Addr().IsUnspecified() {
			wild = true
		}
	}
	var err error
	f.engine, err = resident.Get(pluginName, "engine", func() (*engine.Engine, error) {
		return engine.New(slog.Default()), nil
	})
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	if !wild {
		return nil
	}
	host, err := resident.Get(pluginName, "hosts", func() (*hostnet.Follower, error) { return hostnet.Follow(nil) })
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	for _, l := range f.listeners {
		l.host = host
	}
	return nil
}

// serve is dnsserver's question how a server that begins should write. The engine takes
// the listener over from here on.
func (f *corefile) serve(srv *dnsserver.Server) dns.DecorateWriter {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[srv.Addr]
	if l == nil {
		return nil
	}
	f.adopt(srv, l)
	current.Store(f)
	// As dnsserver has it, the last block's hook is the listener's.
	for _, b := range slices.Backward(l.blocks) {
		if b.before != nil {
			return b.before(srv)
		}
	}
	return nil
}

func (f *corefile) adopt(srv *dnsserver.Server, l *listener) {
	if l.reason != "" || l.gen != nil {
		return
	}
	c := engine.Config{
		ID: l.id, Addr: l.addr, Table: f.table, Tsig: srv.TsigSecret,
		Local: net.UDPAddrFromAddrPort(l.addr),
		Serve: func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) engine.Sink { return f.run(ctx, srv, w, r) },
	}
	for _, b := range l.blocks {
		c.Watched = c.Watched || b.watched
	}
	if l.addr.Addr().IsUnspecified() {
		c.Hosts = func() []netip.Addr { return f.hosts(l) }
	}
	for _, cfg := range l.configs {
		if k := horizon.ClassesOf(cfg.Handler("horizon")); k != nil {
			c.Class = k.Of
		}
	}
	if plan := l.plan(); plan.relays() {
		c.NewRelay = func() engine.Relay { return newRelay(plan) }
	}
	gen, err := f.engine.Adopt(c)
	if err != nil {
		l.reason = err.Error()
		if !errors.Is(err, engine.ErrUnsupported) {
			log.Warningf("%s goes without: %v", l, err)
		}
		return
	}
	l.gen = gen
}

// hosts are the addresses of a listener on all of them that no other listener has.
func (f *corefile) hosts(l *listener) []netip.Addr {
	return slices.DeleteFunc(l.host.Addresses(), func(a netip.Addr) bool {
		if a.Is6() && (a.IsLinkLocalUnicast() || a.IsMulticast()) {
			return true // not to be bound without an interface
		}
		for _, o := range f.listeners {
			if o.addr == netip.AddrPortFrom(a, l.addr.Port()) {
				return true
			}
		}
		return false
	})
}

// run gives a query to the server's chain, and returns whom to tell of repetitions where
// exactly one block that may be learnt from wrote the reply.
func (f *corefile) run(ctx context.Context, srv *dnsserver.Server, w dns.ResponseWriter, r *dns.Msg) engine.Sink {
	o := &observation{server: srv.Addr}
	ctx = context.WithValue(ctx, dnsserver.Key{}, srv)
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	ctx = context.WithValue(ctx, observationKey{}, o)
	srv.ServeDNS(ctx, w, r)
	return o.sink()
}

// flush waits until log and dnstap know what was answered before.
func (f *corefile) flush() error {
	if f.engine != nil {
		f.engine.Flush()
	}
	return nil
}

// stop ends what this Corefile has of listeners: others may have taken over.
func (f *corefile) stop() error {
	f.mu.Lock()
	gens := map[string]*engine.Generation{}
	for _, l := range f.listeners {
		if l.gen != nil {
			gens[l.name] = l.gen
		}
	}
	f.mu.Unlock()
	var errs []error
	for name, g := range gens {
		errs = append(errs, f.engine.Retire(g))
		ended(name, g.Counts())
	}
	current.CompareAndSwap(f, nil)
	return errors.Join(errs...)
}
