package specialuse

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/internal/answer"
)

const pluginName = "specialuse"

// Handler answers special-use names. Safe for concurrent use once the chain is made.
type Handler struct {
	Next plugin.Handler

	except plugin.Zones // lower-cased
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// Concerns returns the zones outside of which the plugin hands a query on and leaves its
// reply alone.
func (h *Handler) Concerns() []string { return slices.Collect(maps.Keys(tops)) }

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	name := state.Name()
	z := find(name)
	// A zone's DS belongs to its parent, which proves that the zone is not signed
	// (RFC 4035, section 3.1.4.1).
	if z == nil || r.Opcode != dns.OpcodeQuery || h.except.Matches(name) != "" ||
		name == z.origin && state.QType() == dns.TypeDS {
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	if c := state.QClass(); c != dns.ClassINET && c != dns.ClassANY {
		// There is nothing of another class, and the name is nobody else's to see.
		queries.WithLabelValues(z.origin, "refused").Inc()
		return dns.RcodeRefused, nil
	}
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative, m.RecursionAvailable = true, true
	all, exists := z.records(name, r.Question[0].Name)
	for _, rr := range all {
		if t := state.QType(); t == rr.Header().Rrtype || t == dns.TypeANY {
			m.Answer = append(m.Answer, rr)
		}
	}
	result := "data"
	if len(m.Answer) == 0 {
		result = "nodata"
		m.Ns = []dns.RR{z.soa(z.origin)}
		if !exists {
			result = "nxdomain"
			m.Rcode = dns.RcodeNameError
		}
		answer.Explain(r, m, dns.ExtendedErrorCodeOther, z.origin+" is served locally ("+z.rfc+")")
	}
	queries.WithLabelValues(z.origin, result).Inc()
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeSuccess, fmt.Errorf("specialuse: write response: %w", err)
	}
	return dns.RcodeSuccess, nil
}
