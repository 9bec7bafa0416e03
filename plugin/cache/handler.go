package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/answer"
)

const pluginName = "cache"

// wildcardLabel is where CoreDNS's file plugins leave the wildcard that an answer was
// made from.
const wildcardLabel = "zone/wildcard"

// Handler answers from the store what it may and fetches the rest from Next.
type Handler struct {
	Next plugin.Handler

	store     *engine.Cache
	opt       options
	bypass    []string // zones that are always asked directly
	zoneLabel string
	viewLabel string
	last      atomic.Pointer[series] // of the server that was asked last
	byServer  sync.Map               // string to *series

	// Of the background: refreshes of stale entries and prefetches.
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup
	closed sync.Once
}

// maxBackground bounds the refreshes that run at a time.
const maxBackground = 1024

func newHandler(store *engine.Cache, opt options) *Handler {
	h := &Handler{store: store, opt: opt, slots: make(chan struct{}, maxBackground), zoneLabel: joinZones(opt.zones)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// close ends the refreshes in the background and waits for them.
func (h *Handler) close() {
	h.closed.Do(func() {
		h.cancel()
		// With every slot taken nobody starts another.
		for range cap(h.slots) {
			h.slots <- struct{}{}
		}
		h.wg.Wait()
	})
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// query is what the plugin needs to know of a query; it belongs to one ServeDNS.
type query struct {
	msg    *dns.Msg
	key    []byte
	name   []byte // QNAME in wire form as the client spelt it
	do, ad bool
	series *series // of the server that the query came to
	subnet *subnet // of the client, where the query names it
	now    time.Time

	// What the above is made in.
	wire   [engine.MaxKey + 1]byte
	keyBuf [engine.MaxKey + 1]byte
	packet []byte
}

var queries = sync.Pool{New: func() any { return &query{packet: make([]byte, 0, 1232)} }}

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if !cacheable(r) || !h.covers(r.Question[0].Name) {
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	sub, ok := subnetOf(r)
	switch {
	case !ok:
		return dns.RcodeFormatError, nil
	case sub != nil && !sub.kept():
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	q := queries.Get().(*query)
	defer func() {
		q.msg, q.series, q.subnet = nil, nil, nil
		queries.Put(q)
	}()
	q.msg, q.do, q.ad, q.now = r, false, r.AuthenticatedData, time.Now()
	q.series = h.seriesOf(metrics.WithServer(ctx))
	if opt := r.IsEdns0(); opt != nil {
		q.do = opt.Do()
	}
	n, err := dns.PackDomainName(r.Question[0].Name, q.wire[:], 0, nil, false)
	if err != nil {
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	q.name = q.wire[:n]
	q.key = engine.AppendKey(q.keyBuf[:0], q.name, r.Question[0].Qtype, r.Question[0].Qclass, flags(r, q.do))
	if q.subnet = sub; sub != nil {
		return h.serveSubnet(ctx, w, q)
	}
	q.series.requests.Inc()

	seen := h.store.Epoch().Load()
	e := h.store.Find(q.key, q.now, h.opt.stale.upTo)
	switch {
	case e == nil:
		q.series.misses.Inc()
		return h.miss(ctx, w, q)
	case e.Stale(q.now):
		q.series.hits[class(e.Kind())].Inc()
		return h.expired(ctx, w, q, e)
	}
	q.series.hits[class(e.Kind())].Inc()
	until := e.Expires()
	if p := h.opt.prefetch; p.amount > 0 {
		until = until.Add(-p.due(e.Life()))
		if e.Popular(q.now, p.window, p.amount) && !q.now.Before(until) && !e.Waiting(q.now) {
			h.refresh(ctx, q, e, false)
		}
	}
	if v := answer.FromContext(ctx); v != nil && q.now.Before(until) && e.Kind() != engine.Failure && len(e.EDE()) == 0 {
		v.Share(h.shareable(q, e, seen, until))
	}
	return h.give(ctx, w, q, e)
}

// shareable says how a hit may be repeated. What was fetched under a name in lower case
// has every name that repeats QNAME's end as a pointer to it, so that another spelling
// changes those alone.
func (h *Handler) shareable(q *query, e *engine.Entry, seen uint64, until time.Time) answer.Shareable {
	s, window := q.series, h.opt.prefetch.window
	hit := s.hits[class(e.Kind())]
	return answer.Shareable{
		Until: until, Epoch: h.store.Epoch(), Seen: seen,
		Aging: !h.opt.keepTTL, Since: e.Stored(), At: q.now, Echo: e.LowerCase(),
		Used: func(n uint32) {
			s.requests.Add(float64(n))
			hit.Add(float64(n))
			h.store.Repeated(e, n, time.Now(), window)
		},
	}
}

func flags(r *dns.Msg, do bool) (f engine.Flags) {
	if r.RecursionDesired {
		f |= engine.RD
	}
	if do {
		f |= engine.DO
	}
	if r.CheckingDisabled {
		f |= engine.CD
	}
	return f
}

// cacheable says whether r is a query whose response depends on nothing but the key.
func cacheable(r *dns.Msg) bool {
	if r.Opcode != dns.OpcodeQuery || r.Response || len(r.Question) != 1 {
		return false
	}
	if engine.MetaType(r.Question[0].Qtype) {
		return false
	}
	opt := r.IsEdns0()
	if opt == nil {
		return true
	}
	for _, o := range opt.Option {
		switch o.Option() {
		case dns.EDNS0NSID, dns.EDNS0DAU, dns.EDNS0DHU, dns.EDNS0N3U, dns.EDNS0EXPIRE,
			dns.EDNS0COOKIE, dns.EDNS0TCPKEEPALIVE, dns.EDNS0PADDING, dns.EDNS0EDE,
			dns.EDNS0SUBNET: // which has a key of its own
		default:
			// What we do not know: another client may get another answer.
			return false
		}
	}
	return true
}

func (h *Handler) covers(name string) bool {
	name = dns.CanonicalName(name)
	return plugin.Zones(h.opt.zones).Matches(name) != "" && plugin.Zones(h.bypass).Matches(name) == ""
}

// give writes the entry to the client.
func (h *Handler) give(ctx context.Context, w dns.ResponseWriter, q *query, e *engine.Entry) (int, error) {
	if tag := e.Tag(); tag != "" {
		metadata.SetValueFunc(ctx, wildcardLabel, func() string { return tag })
	}
	if e.NoStale() {
		// The response is part of another fetch's, which then has its terms.
		answer.Exact(ctx)
	}
	m, err := h.reply(q, e)
	if err != nil {
		return dns.RcodeServerFailure, err
	}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, plugin.Error(pluginName, err)
	}
	return dns.RcodeSuccess, nil
}

// reply makes the message for the client from an entry.
func (h *Handler) reply(q *query, e *engine.Entry) (*dns.Msg, error) {
	q.packet = e.AppendReply(q.packet[:0], engine.Reply{
		ID: q.msg.Id, RD: q.msg.RecursionDesired, CD: q.msg.CheckingDisabled,
		AD: q.ad || q.do, Question: q.name,
		KeepTTL: h.opt.keepTTL, StaleTTL: uint32(h.opt.stale.ttl / time.Second),
	}, q.now)
	// Unpack copies what it needs: the buffer is the next query's.
	m := new(dns.Msg)
	if err := m.Unpack(q.packet); err != nil {
		return nil, plugin.Error(pluginName, err)
	}
	m.Question = []dns.Question{q.msg.Question[0]}
	explain(q.msg, m, e.EDE())
	if q.subnet != nil {
		scope, _ := e.Scope()
		q.subnet.answer(q.msg, m, scope)
	}
	switch {
	case e.Kind() == engine.Failure:
		answer.Explain(q.msg, m, dns.ExtendedErrorCodeCachedError, "")
	case !e.Stale(q.now):
	case e.Kind() == engine.Nxdomain:
		answer.Explain(q.msg, m, dns.ExtendedErrorCodeStaleNXDOMAINAnswer, "")
	default:
		answer.Explain(q.msg, m, dns.ExtendedErrorCodeStaleAnswer, "")
	}
	return m, nil
}

func explain(r, m *dns.Msg, errs []engine.EDE) {
	for _, e := range errs {
		answer.Explain(r, m, e.Code, e.Text)
	}
}
