package fastpath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/internal/fastpath"
	"github.com/resolverd/resolverd/internal/hostnet"
)

const pluginName = "fastpath"

func init() {
	plugin.Register(pluginName, setup)
	caddy.RegisterParsingCallback("dns", pluginName, finish)
}

var (
	mu       sync.Mutex // guards readings
	readings = map[caddy.Context]*corefile{}
)

// corefile is one Corefile, from its reading to its end.
type corefile struct {
	blocks    []*block
	listeners map[string]*listener // by dnsserver.Server.Addr
	table     *engine.Table
	engine    *engine.Engine // nil before the start

	// beforeClose adds a hook behind those of the plugins that were set up already.
	beforeClose func(func() error)

	mu sync.Mutex // guards what the listeners note while servers start and stop
}

// block is one server block.
type block struct {
	configs []*dnsserver.Config // one a zone; the first holds the plugins
	written bool                // `fastpath off` is in it
	before  func(*dnsserver.Server) dns.DecorateWriter
	reason  string // why nothing is learnt in it, or ""
	relay   string // why nothing is relayed in it, or ""; guarded by the corefile's mu
	watched bool   // a plugin of it wants to be told of each repetition
	taps    taps   // of its dnstap, which cannot ask for that itself
	reports sync.Map
}

// listener is one address with a transport that a Corefile serves.
type listener struct {
	name    string // dnsserver.Server.Addr
	id      uint16
	addr    netip.AddrPort
	blocks  []*block
	configs []*dnsserver.Config
	reason  string // why it is off, or ""; guarded by the corefile's mu
	gen     *engine.Generation
	host    *hostnet.Follower // of a listener on all addresses
}

// Observe shows a server block to the plugin, before any setup of its Corefile; the
// loader calls it for every block. Without it there is no fast path.
func Observe(c *caddy.Controller) {
	mu.Lock()
	defer mu.Unlock()
	f := readings[c.Context()]
	if f == nil || c.ServerBlockIndex == 0 {
		// A Corefile that was refused before finish left its reading behind.
		clear(readings)
		f = &corefile{listeners: map[string]*listener{}, table: engine.NewTable()}
		readings[c.Context()] = f
		c.OnStartup(f.start)
		f.beforeClose = func(do func() error) { c.OnRestart(do); c.OnFinalShutdown(do) }
		// The loader's setup is the first, and so is this: the chain still answers what the
		// engine has under way.
		c.OnShutdown(f.stop)
	}
	b := &block{}
	each := *c
	for i := range c.ServerBlockKeys {
		each.ServerBlockKeyIndex = i
		b.configs = append(b.configs, dnsserver.GetConfig(&each))
	}
	f.blocks = append(f.blocks, b)
}

func setup(c *caddy.Controller) error {
	mu.Lock()
	f := readings[c.Context()]
	mu.Unlock()
	if f == nil || c.ServerBlockIndex >= len(f.blocks) {
		return plugin.Error(pluginName, errors.New("this Corefile did not come through resolverd's loader"))
	}
	off, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	f.blocks[c.ServerBlockIndex].written = off
	return nil
}

// parse reads `fastpath [on|off]` and says whether it is off.
func parse(c *caddy.Controller) (bool, error) {
	off := false
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return false, plugin.ErrOnce
		}
		args := c.RemainingArgs()
		switch {
		case len(args) == 0 || len(args) == 1 && args[0] == "on":
		case len(args) == 1 && args[0] == "off":
			off = true
		case len(args) == 1:
			return false, c.Errf("%q is neither on nor off", args[0])
		default:
			return false, c.ArgErr()
		}
		if c.NextBlock() {
			return false, c.Errf("takes no block, but %q", c.Val())
		}
	}
	return off, nil
}

// finish runs when `shed`, which uses the same hook, was read in all blocks.
func finish(ctx caddy.Context) error {
	mu.Lock()
	f := readings[ctx]
	delete(readings, ctx)
	mu.Unlock()
	if f == nil {
		return nil
	}
	// Behind the lameduck of health; before dnstap, which closes in these hooks though
	// queries still come.
	f.beforeClose(f.flush)
	for _, b := range f.blocks {
		first := b.configs[0]
		b.before = first.UDPDecorateWriterFunc
		first.UDPDecorateWriterFunc = f.serve
		first.AddPlugin(func(next plugin.Handler) plugin.Handler { return &handler{next: next, block: b} })
	}
	return nil
}

// place finds the listeners of the blocks, as dnsserver names them.
func (f *corefile) place() error {
	for _, b := range f.blocks {
		for _, cfg := range b.configs {
			for _, h := range cfg.ListenHosts {
				a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(h, cfg.Port))
				if err != nil {
					return plugin.Error(pluginName, err)
				}
				name := cfg.Transport + "://" + a.String()
				l := f.listeners[name]
				if l == nil {
					l = &listener{name: name, id: uint16(len(f.listeners)), addr: addrPort(a)}
					f.listeners[name] = l
				}
				l.configs = append(l.configs, cfg)
				if n := len(l.blocks); n == 0 || l.blocks[n-1] != b {
					l.blocks = append(l.blocks, b)
				}
			}
		}
	}
	return nil
}

// addrPort returns the address, that of all as the unspecified IPv6 address.
func addrPort(a *net.TCPAddr) netip.AddrPort {
	ip, ok := netip.AddrFromSlice(a.IP)
	if ip = ip.Unmap().WithZone(a.Zone); !ok || ip.IsUnspecified() {
		ip = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(ip, uint16(a.Port))
}

func (l *listener) plain() bool { return len(l.configs) > 0 && l.configs[0].Transport == transport.DNS }

func (l *listener) String() string { return fmt.Sprintf("listener %s", l.name) }
