package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/answer"
)

// recorder stands before the client's writer while the next plugin answers: it stores
// the response and hands it on. In the background there is no client.
type recorder struct {
	client dns.ResponseWriter // nil in the background
	h      *Handler
	ctx    context.Context
	req    *dns.Msg // what the next plugin gets, with AD set
	key    []byte
	do, ad bool
	subnet *subnet
	scope  engine.Scope // of the response, where the query has a subnet
	series *series
	epoch  uint64
	policy answer.Policy // set by the producer
	stale  bool          // refreshes a stale entry

	// flight is ended before the client is written to, or nil: a client that does not
	// read must not keep the others waiting. variant is that client's transport.
	flight  *engine.Flight
	variant string

	msg   *dns.Msg      // the response without OPT, or nil; the client's where entry is not nil
	entry *engine.Entry // where it is, or nil
	ede   []engine.EDE
	other bool // msg is not the answer to req
	raw   bool // written past us
}

var errNoMessage = errors.New("response message is nil")

func (h *Handler) record(w dns.ResponseWriter, q *query, f *engine.Flight) *recorder {
	rec := &recorder{client: w, h: h, req: q.msg.Copy(), key: append([]byte(nil), q.key...), do: q.do, ad: q.ad, subnet: q.subnet, series: q.series}
	// The entry serves clients with and without AD: ask for what the first would get.
	rec.req.AuthenticatedData = true
	if f != nil {
		rec.epoch = f.Epoch
	} else {
		rec.epoch = h.store.Epoch().Load()
	}
	return rec
}

// WriteMsg implements dns.ResponseWriter.
func (w *recorder) WriteMsg(res *dns.Msg) error {
	if res == nil {
		return plugin.Error(pluginName, errNoMessage)
	}
	res = res.Copy()
	state := request.Request{Req: w.req, W: w}
	w.other = !state.Match(res)
	switch {
	case w.other && w.client == nil:
		return nil
	case w.other:
		// Not ours to judge, but nobody else's answer either.
		w.series.drops.Inc()
		w.msg, w.entry, w.ede = res, nil, nil
	default:
		w.keep(res)
	}
	if w.client == nil {
		return nil
	}
	if !w.other {
		w.flight.Finish(w.outcome(dns.RcodeSuccess, nil))
	}
	out := w.msg
	if w.entry == nil {
		// Those who wait get it too, and the plugins above may change what they are given.
		out = out.Copy()
	}
	explain(w.req, out, w.ede)
	if w.subnet != nil && !w.other {
		w.subnet.answer(w.req, out, w.scope)
	}
	out.AuthenticatedData = out.AuthenticatedData && (w.ad || w.do)
	return w.client.WriteMsg(out)
}

// keep stores the response as far as it may be.
func (w *recorder) keep(res *dns.Msg) {
	terms := w.h.opt.terms
	if w.policy.NoMinimum {
		terms = terms.NoMinimum()
	}
	now, key := time.Now(), w.key
	if w.subnet != nil {
		w.scope = w.subnet.scope(res)
		key = scopedKey(key, w.scope)
	}
	p := engine.Prepare(res, w.do, terms, now)
	w.msg, w.entry, w.ede = p.Msg, nil, p.EDE
	if w.policy.NoStore || w.h.disabled(p.Kind, res.Question[0].Name) {
		return
	}
	tag := ""
	if f := metadata.ValueFunc(w.ctx, wildcardLabel); f != nil {
		tag = f()
	}
	s, err := w.h.store.Store(key, p, engine.Storage{
		Epoch: w.epoch, NoStale: w.policy.NoStale, MaxStale: w.h.opt.stale.upTo,
		PreferPositive: w.h.opt.stale.preferPositive, Tag: tag,
	}, now)
	if err != nil {
		log.Debugf("response is not kept: %v", err)
		return
	}
	if s.New {
		w.entry = s.Entry
	}
	w.series.stored(w.h.store, s)
}

// fail stores a SERVFAIL without writing it.
func (w *recorder) fail() {
	m := new(dns.Msg)
	m.SetRcode(w.req, dns.RcodeServerFailure)
	w.keep(m)
	w.msg, w.entry = nil, nil
}

// outcome is what those get who waited.
func (w *recorder) outcome(rcode int, err error) engine.Outcome {
	if w.other || w.raw {
		return engine.Outcome{Retry: true}
	}
	if w.entry != nil {
		return engine.Outcome{Entry: w.entry}
	}
	return engine.Outcome{Msg: w.msg, Variant: w.variant, EDE: w.ede, Rcode: rcode, Err: err}
}

// disabled says whether the directive excepts the name from this kind.
func (h *Handler) disabled(k engine.Kind, name string) bool {
	zones := h.opt.noSuccess
	if k.Denial() {
		zones = h.opt.noDenial
	}
	return plugin.Zones(zones).Matches(dns.CanonicalName(name)) != ""
}

// Write implements dns.ResponseWriter. What is written so is not seen, hence not stored.
func (w *recorder) Write(p []byte) (int, error) {
	w.raw = true
	if w.client == nil {
		return len(p), nil
	}
	return w.client.Write(p)
}

// nowhere is the client's address where there is no client: over TCP nothing is truncated.
var nowhere = &net.TCPAddr{}

// RemoteAddr implements dns.ResponseWriter.
func (w *recorder) RemoteAddr() net.Addr {
	if w.client == nil {
		return nowhere
	}
	return w.client.RemoteAddr()
}

// LocalAddr implements dns.ResponseWriter.
func (w *recorder) LocalAddr() net.Addr {
	if w.client == nil {
		return nowhere
	}
	return w.client.LocalAddr()
}

// Close implements dns.ResponseWriter.
func (w *recorder) Close() error {
	if w.client == nil {
		return nil
	}
	return w.client.Close()
}

// TsigStatus implements dns.ResponseWriter.
func (w *recorder) TsigStatus() error {
	if w.client == nil {
		return nil
	}
	return w.client.TsigStatus()
}

// TsigTimersOnly implements dns.ResponseWriter.
func (w *recorder) TsigTimersOnly(b bool) {
	if w.client != nil {
		w.client.TsigTimersOnly(b)
	}
}

// Hijack implements dns.ResponseWriter.
func (w *recorder) Hijack() {
	w.raw = true
	if w.client != nil {
		w.client.Hijack()
	}
}

// ConnectionState implements dns.ConnectionStater for plugins that look at the client's
// TLS connection.
func (w *recorder) ConnectionState() *tls.ConnectionState {
	if c, ok := w.client.(dns.ConnectionStater); ok {
		return c.ConnectionState()
	}
	return nil
}
