package rrl

import (
	"net/netip"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/cookie"
	"github.com/resolverd/resolverd/internal/ratelimit"
)

// gate is the writer of one query. Responses pass it, or not.
type gate struct {
	dns.ResponseWriter
	handler   *Handler
	query     *dns.Msg // as it came
	verdict   *answer.Verdict
	client    netip.Addr
	forgeable bool
	state     cookie.State
	cookie    cookie.Cookie // for the response, where state is Stranger or Good
}

// WriteMsg implements dns.ResponseWriter.
func (g *gate) WriteMsg(m *dns.Msg) error {
	class := ratelimit.ClassOf(m.Rcode, len(m.Answer))
	if out := g.admit(class, m); out != nil {
		return g.ResponseWriter.WriteMsg(out)
	}
	return nil
}

// Write implements dns.ResponseWriter.
func (g *gate) Write(p []byte) (int, error) {
	if !g.forgeable && !g.baked() {
		return g.ResponseWriter.Write(p)
	}
	m := new(dns.Msg)
	if err := m.Unpack(p); err != nil {
		return 0, plugin.Error(pluginName, err)
	}
	return len(p), g.WriteMsg(m)
}

// close ends a query to which nothing was written, and which the server would answer by
// the RCODE alone.
func (g *gate) close(rcode int, err error) (int, error) {
	m := new(dns.Msg).SetRcode(g.query, rcode)
	out := g.admit(ratelimit.Error, m)
	if out == m {
		return rcode, err // nothing to add
	}
	if out != nil {
		_ = g.ResponseWriter.WriteMsg(out) // the client may be gone
	}
	return dns.RcodeSuccess, err
}

// baked says whether the response gets a cookie.
func (g *gate) baked() bool { return g.state == cookie.Stranger || g.state == cookie.Good }

// admit returns what is sent where m is due: m itself where nothing is to be done to it,
// nil for nothing.
func (g *gate) admit(class ratelimit.Class, m *dns.Msg) *dns.Msg {
	l := g.handler.limiter
	if g.forgeable {
		g.verdict.Limit(answer.Limit{By: l, Class: class})
		switch g.decide(class) {
		case ratelimit.Dropped:
			g.verdict.Veto(pluginName)
			return nil
		case ratelimit.Slipped:
			g.verdict.Veto(pluginName)
			m = empty(m, g.query)
		case ratelimit.BadCookie:
			g.verdict.Veto(pluginName)
			m = new(dns.Msg).SetRcode(g.query, dns.RcodeBadCookie)
		}
	}
	if g.baked() {
		return dress(m, g.query, g.cookie)
	}
	return m
}

// decide decides on a response of the class, and counts it.
func (g *gate) decide(class ratelimit.Class) (result ratelimit.Result) {
	l, now := g.handler.limiter, time.Now()
	switch {
	case g.state == cookie.Good:
		result = ratelimit.Known
	case l.Exempt(g.client):
		result = ratelimit.Exempted
	default:
		result = ratelimit.Result(l.Take(g.client, class, now))
		// Who sent a client cookie learns by BADCOOKIE how to be known (RFC 7873, section
		// 5.2.3). That is an error as others are: a flood with forged cookies gets no more
		// than the rate of those.
		if result != ratelimit.Passed && g.state == cookie.Stranger && class != ratelimit.Error &&
			l.Take(g.client, ratelimit.Error, now) == ratelimit.Pass {
			result = ratelimit.BadCookie
		}
	}
	l.Count(class, result)
	return result
}

// empty returns what goes in the place of m where that slips. The fast path makes the same
// of packets.
func empty(m, query *dns.Msg) *dns.Msg {
	out := &dns.Msg{MsgHdr: m.MsgHdr, Question: m.Question}
	out.Truncated, out.Authoritative, out.AuthenticatedData = true, false, false
	if opt := query.IsEdns0(); opt != nil {
		out.SetEdns0(opt.UDPSize(), opt.Do())
	}
	return out
}
