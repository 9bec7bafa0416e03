package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
)

const pluginName = "registry"

// staleAfter is how long the store may be silent before answers say so.
const staleAfter = 30 * time.Second

// shareFor bounds how long an answer may be repeated although its epoch stands still,
// so that the age of a view that is cut off shows in answers that were learnt before.
const shareFor = 30 * time.Second

// zone is a zone with what concerns its place in the chain.
type zone struct {
	*names.Zone
	fall fall.F
}

// Handler answers the zones of one server block. Safe for concurrent use.
type Handler struct {
	Next plugin.Handler

	zones []*zone
	view  *registry.View
	glue  []netip.Addr   // addresses that we listen on, for zone transfers
	axfr  plugin.Handler // the plugin transfer, nil where the server block has none
	chase chaser
	rand  names.Rand
	now   func() time.Time
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// Concerns returns the zones outside of which the plugin hands a query on and leaves its
// reply alone: its own, and those of reverse names.
func (h *Handler) Concerns() []string {
	all := []string{"in-addr.arpa.", "ip6.arpa."}
	for _, z := range h.zones {
		all = append(all, z.Origin)
	}
	return all
}

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	if r.Opcode != dns.OpcodeQuery {
		return h.next(ctx, w, r)
	}
	inet := state.QClass() == dns.ClassINET || state.QClass() == dns.ClassANY
	qname := state.QName()
	z := h.match(state.Name())
	if z == nil {
		if a, ok := names.ParseReverse(qname); ok && inet {
			return h.reverse(ctx, state, a)
		}
		return h.next(ctx, w, r)
	}
	q, _ := z.Parse(qname)
	switch {
	case q.Kind == names.KindOutside && !z.Exclusive:
		return h.next(ctx, w, r)
	case !inet:
		// There is nothing of another class, and the name is no upstream's to see.
		count(z.Origin, "", resultRefused)
		return dns.RcodeRefused, nil
	case state.QType() == dns.TypeAXFR || state.QType() == dns.TypeIXFR:
		return h.handOver(ctx, w, r, z)
	case !h.view.Loaded():
		count(z.Origin, "", resultNotReady)
		return h.write(state, answer.Servfail(r, dns.ExtendedErrorCodeNotReady, "the registry is not loaded yet"))
	}

	epoch := z.Epoch(h.view, h.view.Load(), q)
	var seen uint64
	if epoch != nil {
		seen = epoch.Load()
	}
	snap := h.view.Load()
	a := z.Answer(snap, q, h.query(&state))
	if a.Status == names.NotOurs || a.Status == names.NoName && z.fall.Through(state.Name()) {
		return h.next(ctx, w, r)
	}
	m := h.response(&state, a)
	failed := false
	if a.Chase != "" {
		failed = !h.follow(ctx, state, m, a.Chase)
	}
	if a.LastGood {
		answer.Explain(r, m, dns.ExtendedErrorCodeOther, "every instance is critical: these were good before")
	}
	fresh := h.explainAge(r, m)
	result := resultOf(a, failed)
	if v := answer.FromContext(ctx); v != nil && epoch != nil && epoch == z.Epoch(h.view, snap, q) && fresh && a.Chase == "" && repeatable(state.QType()) {
		v.Share(answer.Shareable{
			Until: h.now().Add(shareFor), Epoch: epoch, Seen: seen,
			Random: a.Random, Weights: a.Weights, Echo: spelt(r, a),
			Used: func(n uint32) { countMany(z.Origin, a.Service, result, n) },
		})
	}
	count(z.Origin, a.Service, result)
	return h.write(state, m)
}

// repeatable says whether an answer of the type stays as it is while its epoch stands: an
// SOA carries the store's revision, an NS may carry the address that the query came to.
func repeatable(qtype uint16) bool {
	return qtype != dns.TypeSOA && qtype != dns.TypeNS && qtype != dns.TypeANY
}

// spelt says whether the response has no name but the one that was asked for, so that it
// is the same for another spelling of it.
func spelt(r *dns.Msg, a names.Answer) bool {
	if len(a.Authority) > 0 || len(a.Additional) > 0 {
		return false
	}
	for _, rr := range a.Answer {
		if t := rr.Header().Rrtype; t != dns.TypeA && t != dns.TypeAAAA || rr.Header().Name != r.Question[0].Name {
			return false
		}
	}
	return true
}

// reverse answers PTR for registered addresses; all else goes on.
func (h *Handler) reverse(ctx context.Context, state request.Request, addr netip.Addr) (int, error) {
	if len(h.zones) == 0 || !h.view.Loaded() {
		return h.next(ctx, state.W, state.Req)
	}
	z := h.zones[0]
	seen := h.view.Addrs.Load()
	a := z.Reverse(h.view.Load(), addr, h.query(&state))
	if a.Status == names.NotOurs {
		return h.next(ctx, state.W, state.Req)
	}
	m := h.response(&state, a)
	result := resultOf(a, false)
	if v := answer.FromContext(ctx); h.explainAge(state.Req, m) && v != nil {
		v.Share(answer.Shareable{
			Until: h.now().Add(shareFor), Epoch: &h.view.Addrs, Seen: seen, Random: a.Random,
			Used: func(n uint32) { countMany(z.Origin, "", result, n) },
		})
	}
	count(z.Origin, "", result)
	return h.write(state, m)
}

func (h *Handler) next(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
}

// match returns the longest zone that has the lower-cased name, or nil.
func (h *Handler) match(name string) *zone {
	var best *zone
	for _, z := range h.zones {
		if (best == nil || len(z.Origin) > len(best.Origin)) && dns.IsSubDomain(z.Origin, name) {
			best = z
		}
	}
	return best
}

func (h *Handler) query(state *request.Request) names.Query {
	client, local := addrOf(state.W.RemoteAddr()), addrOf(state.W.LocalAddr())
	if local.IsUnspecified() {
		if local = (netip.Addr{}); client.IsLoopback() {
			local = client
		}
	}
	return names.Query{
		Name: state.Req.Question[0].Name, Type: state.QType(), Local: local,
		Limit: names.MaxRRs(limit(state)), Rand: h.rand,
	}
}

// response makes the message of an answer.
func (h *Handler) response(state *request.Request, a names.Answer) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(state.Req)
	m.Authoritative, m.RecursionAvailable = true, true
	if a.Status == names.NoName {
		m.Rcode = dns.RcodeNameError
	}
	m.Answer, m.Ns, m.Extra = a.Answer, a.Authority, a.Additional
	return m
}

// explainAge says in the response how old the view is where the store is out of
// touch, and reports whether it is in touch.
func (h *Handler) explainAge(r, m *dns.Msg) bool {
	age, ever := h.view.Age(h.now())
	if ever && age <= staleAfter {
		return true
	}
	code := dns.ExtendedErrorCodeStaleAnswer
	if m.Rcode == dns.RcodeNameError {
		code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	text := "the registry is as the disk held it; its store was not reached yet"
	if ever {
		text = fmt.Sprintf("the registry's store was last heard %s ago", age.Truncate(time.Second))
	}
	answer.Explain(r, m, code, text)
	return false
}

// write cuts the response to size and sends it. The client's announcement is lowered
// to what we may send, as the plugin bufsize does, because the server's own cut, which
// is the last, would otherwise undo the compression that made the response fit.
func (h *Handler) write(state request.Request, m *dns.Msg) (int, error) {
	max := limit(&state)
	if opt := state.Req.IsEdns0(); opt != nil && state.Proto() == "udp" && int(opt.UDPSize()) > max {
		opt.SetUDPSize(uint16(max))
	}
	fresh := request.Request{W: state.W, Req: state.Req}
	fresh.SizeAndDo(m)
	names.Fit(m, max)
	if err := state.W.WriteMsg(m); err != nil {
		return dns.RcodeSuccess, fmt.Errorf("registry: write response: %w", err)
	}
	return dns.RcodeSuccess, nil
}

func limit(state *request.Request) int {
	client := addrOf(state.W.RemoteAddr())
	local := client.IsLoopback() || client.IsValid() && client == addrOf(state.W.LocalAddr())
	return names.Limit(state.Req, state.Proto() == "tcp", local)
}

// addrOf returns the address of an endpoint, or the zero Addr.
func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(interface{ Unwrap() net.Addr }); ok && u.Unwrap() != nil {
		a = u.Unwrap()
	}
	if p, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return p.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
