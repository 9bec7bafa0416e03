package registry

import (
	"context"

	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/answer"
)

// maxChase bounds the CNAMEs of ours that one query follows, as Consul does: an
// external host may again be a name of the registry.
const maxChase = 3

// maxChased bounds the RRs that are taken over from the target's answer.
const maxChased = 64

// chaser asks this server for another name on the client's behalf.
type chaser interface {
	Lookup(ctx context.Context, state request.Request, name string, typ uint16) (*dns.Msg, error)
}

var _ chaser = (*upstream.Upstream)(nil)

type depthKey struct{}

// follow adds to the response what the CNAME's target has, and takes over its RCODE. It
// reports false where that failed: the response is then SERVFAIL, since a CNAME that
// leads nowhere would look like "no address" to a stub resolver.
func (h *Handler) follow(ctx context.Context, state request.Request, m *dns.Msg, target string) bool {
	depth, _ := ctx.Value(depthKey{}).(int)
	if depth >= maxChase {
		return h.unreachable(state.Req, m, "the chain of external hosts is longer than 3")
	}
	ctx = context.WithValue(ctx, depthKey{}, depth+1)
	// What is looked up on the way is not the response that is being learnt.
	ctx = answer.WithVerdict(ctx, nil)
	got, err := h.chase.Lookup(ctx, state, target, state.QType())
	switch {
	case err != nil:
		return h.unreachable(state.Req, m, "the external host could not be looked up: "+err.Error())
	case got == nil || got.Rcode != dns.RcodeSuccess && got.Rcode != dns.RcodeNameError:
		return h.unreachable(state.Req, m, "no answer for the external host "+target)
	}
	for _, rr := range got.Answer {
		t := rr.Header().Rrtype
		if (t == state.QType() || t == dns.TypeCNAME) && len(m.Answer) <= maxChased {
			m.Answer = append(m.Answer, dns.Copy(rr))
		}
	}
	m.Rcode = got.Rcode
	m.Truncated = m.Truncated || got.Truncated
	for _, rr := range got.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, dns.Copy(rr))
		}
	}
	return true
}

func (h *Handler) unreachable(r, m *dns.Msg, why string) bool {
	m.Rcode, m.Answer, m.Authoritative = dns.RcodeServerFailure, nil, false
	answer.Explain(r, m, dns.ExtendedErrorCodeNoReachableAuthority, why)
	return false
}
