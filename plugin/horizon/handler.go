package horizon

import (
	"context"
	"net"
	"net/netip"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// guard stands in front of a block's plugins and refuses what is not for the block.
type guard struct {
	next   plugin.Handler
	plan   *plan
	block  *block
	config *dnsserver.Config
	name   string // the block's horizons, or ""
}

// Name implements plugin.Handler.
func (g *guard) Name() string { return pluginName }

// ServeDNS implements plugin.Handler.
func (g *guard) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := r.Question[0] // dnsserver lets nothing else in
	ok, zone := g.plan.admits(g.block, listener(ctx), q.Name, q.Qtype, client(w))
	if ok {
		return plugin.NextOrFailure(pluginName, g.next, ctx, w, r)
	}
	refused.WithLabelValues(zone).Inc()
	answer.FromContext(ctx).Veto(pluginName)
	m := new(dns.Msg)
	m.SetRcode(r, dns.RcodeRefused)
	answer.Explain(r, m, dns.ExtendedErrorCodeProhibited, "no horizon of "+zone+" is for your address")
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, plugin.Error(pluginName, err)
	}
	return dns.RcodeSuccess, nil
}

// view is the guard of a block that names horizons, as a dnsserver.Viewer.
type view struct{ *guard }

// Filter implements dnsserver.Viewer. It lets all pass: the filters that select by zone
// are in the Config.
func (view) Filter(context.Context, *request.Request) bool { return true }

// ViewName implements dnsserver.Viewer: the horizon is the label `view` of CoreDNS's
// metrics, unless the block has a stock view, which names it then.
func (g view) ViewName() string {
	if g.config.Handler("view") != nil {
		return ""
	}
	return g.name
}

// Metadata implements metadata.Provider: horizon/name, for `log` and others.
func (g view) Metadata(ctx context.Context, _ request.Request) context.Context {
	metadata.SetValueFunc(ctx, pluginName+"/name", func() string { return g.name })
	return ctx
}

// filter returns dnsserver's question about b in the zone.
func (p *plan) filter(b *block, zone string) dnsserver.FilterFunc {
	return func(ctx context.Context, state *request.Request) bool {
		g := p.servers[listener(ctx)][zone]
		return g == nil || !g.parted() || g.pass(b, client(state.W))
	}
}

// listener returns the address of the server that got the query.
func listener(ctx context.Context) string {
	if s, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server); ok {
		return s.Addr
	}
	return ""
}

// client returns the address of the other end of the connection, IPv4 as IPv4 and
// without an interface, or the invalid address where it has none.
func client(w dns.ResponseWriter) netip.Addr {
	var a netip.Addr
	switch r := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		a = r.AddrPort().Addr()
	case *net.TCPAddr:
		a = r.AddrPort().Addr()
	case nil:
		return a
	default:
		ap, err := netip.ParseAddrPort(r.String())
		if err != nil {
			return a
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone("")
}
