package consul

import (
	"context"
	"errors"
	"slices"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/hostnet"
)

// Consul is the handler of one consul directive.
type Consul struct {
	// Next is asked for names outside the zones.
	Next plugin.Handler

	zones plugin.Zones
	limit forward.Limiter
	pool  *forward.Pool
	own   hostnet.Listeners
}

// Name implements plugin.Handler.
func (h *Consul) Name() string { return "consul" }

// Concerns returns the zones outside of which the plugin hands a query on and leaves its
// reply alone.
func (h *Consul) Concerns() []string { return h.zones }

// ServeDNS implements plugin.Handler. It writes a response to every query below its
// zones: a name that Consul does not know must not go on to an upstream outside.
func (h *Consul) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	if h.zones.Matches(state.Name()) == "" {
		return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
	}
	// Consul's TTLs are as short as whoever set them wants them, 0 by default.
	answer.Exact(ctx)
	if !h.limit.Enter() {
		metrics.result("rejected")
		return h.fail(ctx, w, r, "too many queries under way")
	}
	defer h.limit.Leave()
	resp, err := h.pool.Exchange(ctx, forward.Query{
		Msg: r, TCP: state.Proto() == "tcp",
		Refuse: func(e forward.Endpoint) bool { return h.own.Has(e.Addr) },
	})
	switch {
	// The client's fault: an error of ours would be logged, and anybody could fill the log.
	case errors.Is(err, forward.ErrQuery):
		return dns.RcodeFormatError, nil
	case errors.Is(err, forward.ErrUnsupported):
		return dns.RcodeNotImplemented, nil
	case err != nil:
		metrics.result("failed")
		return h.fail(ctx, w, r, h.away(err))
	}
	metrics.result("answered")
	addressesFirst(resp.Msg)
	if resp.Msg.Rcode == dns.RcodeServerFailure {
		answer.Explain(r, resp.Msg, dns.ExtendedErrorCodeOther, "consul at "+resp.From.Label()+" answered SERVFAIL")
		noStore(ctx)
	}
	return dns.RcodeSuccess, w.WriteMsg(resp.Msg)
}

// addressesFirst moves the addresses of ADDITIONAL to its front. Consul puts a TXT of the
// node's metadata after each, and HAProxy reads ADDITIONAL up to the first record that it
// does not want.
func addressesFirst(m *dns.Msg) {
	rank := func(rr dns.RR) int {
		switch rr.Header().Rrtype {
		case dns.TypeA, dns.TypeAAAA:
			return 0
		case dns.TypeOPT:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(m.Extra, func(a, b dns.RR) int { return rank(a) - rank(b) })
}

// away says who does not answer, and why.
func (h *Consul) away(err error) string {
	var failure *forward.Failure
	if errors.As(err, &failure) && failure.Attempts > 0 {
		return "consul at " + failure.Upstream.Label() + " does not answer: " + forward.Reason(failure.Err)
	}
	if errors.Is(err, forward.ErrLoop) {
		return "consul's address is a listener of this resolver"
	}
	// Nobody was asked: what is known of the first agent stands for all.
	for _, s := range h.pool.Upstreams() {
		return "consul at " + s.Endpoint.Label() + " does not answer: " + s.Cause
	}
	return "no consul agent is known"
}

// fail answers SERVFAIL with the reason, which is not cached: Consul may be back for
// the next query.
func (h *Consul) fail(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, why string) (int, error) {
	noStore(ctx)
	return dns.RcodeSuccess, w.WriteMsg(answer.Servfail(r, dns.ExtendedErrorCodeNoReachableAuthority, why))
}

func noStore(ctx context.Context) {
	if p := answer.PolicyFrom(ctx); p != nil {
		p.NoStore = true
	}
}
