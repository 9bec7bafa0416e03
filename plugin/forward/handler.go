package forward

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/dnstap"
	"github.com/coredns/coredns/plugin/metadata"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/answer"
)

var log = clog.NewWithPlugin("forward")

// Forward is the handler of one stanza.
type Forward struct {
	// Next is asked for names that are not ours, and after the RCODEs of next if it is
	// another Forward.
	Next plugin.Handler

	from         string
	except       []string
	next         []int
	nextOnNodata bool
	links        []link
	limit        engine.Limiter
	pool         *engine.Pool
	own          listeners
	loops        func(engine.Endpoint) bool // own.leadsBack
	taps         []*dnstap.Dnstap           // set before the first query, as is relaying
	relaying     relaying
	log          *slog.Logger
	failures     report
}

// Name implements plugin.Handler.
func (f *Forward) Name() string { return "forward" }

// ServeDNS implements plugin.Handler. It writes a response to every query of its zone.
func (f *Forward) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	if !f.match(state.Name()) {
		return plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
	}
	if !f.limit.Enter() {
		metrics.rejects.Inc()
		noStore(ctx)
		return f.refuse(w, r)
	}
	defer f.limit.Leave()

	if done, code, err := f.relay(ctx, w, r, &state); done {
		return code, err
	}
	var asked engine.Endpoint
	q := engine.Query{Msg: r, TCP: state.Proto() == "tcp", Refuse: f.loops}
	q.Begun, _ = answer.BegunFrom(ctx).(*engine.Begun)
	q.Attempted = func(a engine.Attempt) {
		asked = a.To
		if len(f.taps) > 0 {
			tap(ctx, f.taps, state, a)
		}
	}
	resp, err := f.pool.Exchange(ctx, q)
	if err == nil {
		asked = resp.From
	}
	if asked.Addr.IsValid() {
		metadata.SetValueFunc(ctx, "forward/upstream", asked.Label)
	}
	if err != nil {
		return f.fail(ctx, w, r, state.Name(), err)
	}
	rcode, empty := resp.Msg.Rcode, len(resp.Msg.Answer) == 0
	if f.passOn(rcode, empty) {
		return plugin.NextOrFailure(f.Name(), f.Next, ctx, w, r)
	}
	if done, code, err := f.chained(ctx, w, r, state.Name(), rcode, empty); done {
		return code, err
	}
	return dns.RcodeSuccess, f.write(w, r, resp.Msg, resp.From)
}

// write gives the client an upstream's response.
func (f *Forward) write(w dns.ResponseWriter, r, m *dns.Msg, from engine.Endpoint) error {
	if m.Rcode == dns.RcodeServerFailure && !explained(m) {
		answer.Explain(r, m, dns.ExtendedErrorCodeOther, "upstream "+from.Label()+" answered SERVFAIL")
	}
	return w.WriteMsg(m)
}

// match says whether name, in lower case, is forwarded here.
func (f *Forward) match(name string) bool {
	if !plugin.Name(f.from).Matches(name) {
		return false
	}
	if name == f.from {
		return true
	}
	for _, e := range f.except {
		if plugin.Name(e).Matches(name) {
			return false
		}
	}
	return true
}

// passOn says whether the next forward is to be asked in place of giving a reply with
// this RCODE; empty says that ANSWER is.
func (f *Forward) passOn(rcode int, empty bool) bool {
	if _, ok := f.Next.(*Forward); !ok {
		return false
	}
	return slices.Contains(f.next, rcode) || f.nextOnNodata && rcode == dns.RcodeSuccess && empty
}

// refuse answers a query for which there is no room.
func (f *Forward) refuse(w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg)
	m.SetRcode(r, dns.RcodeRefused)
	answer.Explain(r, m, dns.ExtendedErrorCodeOther, "forward: too many queries under way")
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// fail answers a query that no upstream answered; name is its name in lower case.
func (f *Forward) fail(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, name string, err error) (int, error) {
	var failure *engine.Failure
	switch {
	// The client's fault: an error of ours would be logged, and anybody could fill the log.
	case errors.Is(err, engine.ErrQuery):
		return dns.RcodeFormatError, nil
	case errors.Is(err, engine.ErrUnsupported):
		return dns.RcodeNotImplemented, nil
	case errors.As(err, &failure):
		if done, code, err := f.chained(ctx, w, r, name, dns.RcodeServerFailure, true); done {
			return code, err
		}
		if failure.Attempts == 0 {
			noStore(ctx)
		}
		f.failures.failed(f.log, f.from, err)
		code, text := failure.Explain()
		return dns.RcodeSuccess, w.WriteMsg(answer.Servfail(r, code, text))
	}
	return dns.RcodeServerFailure, err
}

// noStore asks the cache above not to keep the response: nobody was asked, so that the
// next query costs nothing and may find what this one lacked.
func noStore(ctx context.Context) {
	if p := answer.PolicyFrom(ctx); p != nil {
		p.NoStore = true
	}
}

// explained says whether m carries an Extended DNS Error already.
func explained(m *dns.Msg) bool {
	opt := m.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE })
}

// warnLoops tells once at startup of upstreams that lead back to this block.
func (f *Forward) warnLoops() {
	for _, u := range f.pool.Upstreams() {
		if f.own.leadsBack(u.Endpoint) {
			f.log.Warn("upstream is a listener of this server block and is not asked", "directive", "forward "+f.from, "upstream", u.Endpoint.String())
		}
	}
}
