package rrl

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/cookie"
	"github.com/resolverd/resolverd/internal/ratelimit"
)

// Handler is the plugin in one server block.
type Handler struct {
	next    plugin.Handler
	limiter *ratelimit.Limiter
	keeper  *cookie.Keeper
}

// Limiter returns who limits the block's responses, for who gives some of them without
// this handler.
func (h *Handler) Limiter() *ratelimit.Limiter { return h.limiter }

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// enteredKey marks the context of a query that has passed a handler: what plugins ask
// inside it is nobody's response.
type enteredKey struct{}

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if inner(ctx) {
		return plugin.NextOrFailure(pluginName, h.next, ctx, w, r)
	}
	ctx = context.WithValue(ctx, enteredKey{}, true)
	g := &gate{ResponseWriter: w, handler: h, query: r, verdict: answer.FromContext(ctx), client: clientOf(w), forgeable: forgeable(ctx, w)}
	option, bare := cut(r)
	if option != nil {
		g.state, g.cookie = h.keeper.Judge(option, g.client, time.Now())
	}
	if g.state == cookie.Malformed {
		return g.close(dns.RcodeFormatError, nil)
	}
	rcode, err := plugin.NextOrFailure(pluginName, h.next, ctx, g, bare)
	if plugin.ClientWrite(rcode) {
		return rcode, err
	}
	return g.close(rcode, err)
}

// inner says whether the query was made by a plugin to answer another one.
func inner(ctx context.Context) bool {
	depth, _ := ctx.Value(dnsserver.LoopKey{}).(int)
	return depth > 0 || ctx.Value(enteredKey{}) != nil
}

// forgeable says whether the client's address is only claimed: over UDP, but not QUIC.
func forgeable(ctx context.Context, w dns.ResponseWriter) bool {
	if a := w.RemoteAddr(); a == nil || a.Network() != "udp" {
		return false
	}
	s, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
	return !ok || strings.HasPrefix(s.Addr, transport.DNS+"://")
}

// clientOf returns the address of the other end, IPv4 as IPv4, or the invalid address.
func clientOf(w dns.ResponseWriter) netip.Addr {
	var a netip.Addr
	switch r := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		a = r.AddrPort().Addr()
	case *net.TCPAddr:
		a = r.AddrPort().Addr()
	case nil:
	default:
		p, _ := netip.ParseAddrPort(r.String())
		a = p.Addr()
	}
	return a.Unmap().WithZone("")
}
