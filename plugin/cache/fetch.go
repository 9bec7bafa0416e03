package cache

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/answer"
)

// fetchTimeout bounds a fetch that others may be waiting for, whatever the plugins below do.
const fetchTimeout = 15 * time.Second

// maxTurns bounds how often a query looks for somebody else's fetch before it makes its own.
const maxTurns = 3

// miss fetches the response, or waits for the query that already does.
func (h *Handler) miss(ctx context.Context, w dns.ResponseWriter, q *query) (int, error) {
	// A plugin below may ask the whole chain again, as file does for the target of a
	// CNAME. Such a query runs inside a fetch and must not wait for one: it might be its own.
	outer := answer.PolicyFrom(ctx)
	variant := q.subnet.String()
	for turn := 0; ; turn++ {
		var f *engine.Flight
		lead := true
		if turn < maxTurns && outer == nil {
			f, lead = h.store.Join(q.key, variant)
		}
		if lead {
			return h.lead(ctx, w, q, f, outer)
		}
		out, err := f.Wait(ctx)
		if err != nil {
			return dns.RcodeServerFailure, plugin.Error(pluginName, err)
		}
		switch mine := transport(w, q.msg); {
		case out.Retry:
			if e := h.fresh(q); e != nil {
				h.store.Shared()
				return h.give(ctx, w, q, e)
			}
		case out.Entry == nil && out.Msg == nil:
			h.store.Shared()
			return out.Rcode, out.Err
		case out.Entry == nil && out.Msg.Truncated && out.Variant != mine:
			// What did not fit the other may fit here.
			variant = q.subnet.String() + mine
		default:
			h.store.Shared()
			return h.share(ctx, w, q, out)
		}
	}
}

// lead fetches for q and for all who wait for f, which is nil where none can. outer is
// the policy of the fetch that this one is part of, or nil.
func (h *Handler) lead(ctx context.Context, w dns.ResponseWriter, q *query, f *engine.Flight, outer *answer.Policy) (int, error) {
	defer f.Abort()
	// Between the miss and the flight another one may have landed.
	if e := h.landed(q); e != nil {
		f.Finish(engine.Outcome{Retry: true})
		return h.give(ctx, w, q, e)
	}
	rec := h.record(w, q, f)
	rec.flight, rec.variant = f, transport(w, q.msg)
	fetch, cancel := detach(ctx)
	defer cancel()
	fetch = answer.WithPolicy(fetch, &rec.policy)
	rec.ctx = fetch
	rcode, err := plugin.NextOrFailure(pluginName, h.Next, fetch, rec, rec.req)
	// The next plugin may fail without a word, as when no upstream answers. The failure
	// is kept, so that the client's retry does not wait for the upstreams again.
	if err != nil && rcode == dns.RcodeServerFailure && rec.msg == nil && !rec.raw && fetch.Err() == nil {
		rec.fail()
	}
	outer.Join(rec.policy)
	f.Finish(rec.outcome(rcode, err))
	return rcode, err
}

// fresh returns what may be given to q, and counts it.
func (h *Handler) fresh(q *query) *engine.Entry {
	if q.subnet != nil {
		return q.subnet.find(h.store, q.key, q.now)
	}
	return h.store.Find(q.key, q.now, 0)
}

// landed returns what was stored since q missed it, or nil.
func (h *Handler) landed(q *query) *engine.Entry {
	if q.subnet != nil {
		return q.subnet.peek(h.store, q.key, q.now)
	}
	if e := h.store.Peek(q.key); e != nil && !e.Stale(q.now) {
		return e
	}
	return nil
}

// detach returns a context that outlives the client's departure, because others wait for
// the fetch, but keeps the deadline that was set above.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	at := time.Now().Add(fetchTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(at) {
		at = d
	}
	return context.WithDeadline(context.WithoutCancel(ctx), at)
}

// share writes what another query's fetch brought home: an entry, or a response that is
// not kept.
func (h *Handler) share(ctx context.Context, w dns.ResponseWriter, q *query, out engine.Outcome) (int, error) {
	if out.Entry != nil {
		return h.give(ctx, w, q, out.Entry)
	}
	if err := w.WriteMsg(personal(q, out)); err != nil {
		return dns.RcodeServerFailure, plugin.Error(pluginName, err)
	}
	return dns.RcodeSuccess, nil
}

// personal returns a copy of the outcome's response as a reply to q.
func personal(q *query, out engine.Outcome) *dns.Msg {
	m := out.Msg.Copy()
	m.Id = q.msg.Id
	m.RecursionDesired = q.msg.RecursionDesired
	m.CheckingDisabled = q.msg.CheckingDisabled
	m.AuthenticatedData = m.AuthenticatedData && (q.ad || q.do)
	name := q.msg.Question[0].Name
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if strings.EqualFold(rr.Header().Name, name) {
				rr.Header().Name = name
			}
		}
	}
	m.Question = []dns.Question{q.msg.Question[0]}
	explain(q.msg, m, out.EDE)
	if q.subnet != nil {
		q.subnet.answer(q.msg, m, engine.Scope{Prefix: q.subnet.prefix})
	}
	return m
}

// transport tells apart clients for which a response is truncated at different sizes.
func transport(w dns.ResponseWriter, r *dns.Msg) string {
	if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		return "tcp"
	}
	size := uint16(dns.MinMsgSize)
	if opt := r.IsEdns0(); opt != nil {
		size = max(size, opt.UDPSize())
	}
	return strconv.Itoa(int(size))
}

// expired serves a query for which only a stale entry is there.
func (h *Handler) expired(ctx context.Context, w dns.ResponseWriter, q *query, e *engine.Entry) (int, error) {
	s := h.opt.stale
	switch {
	case e.Waiting(q.now):
	case !s.verify:
		h.refresh(ctx, q, e, true)
	default:
		f, lead := h.refresh(ctx, q, e, true)
		// Who finds a verification under way gives what there is, unless the directive
		// has everybody wait for the source.
		if f == nil || (!lead && (s.timeout > 0 || s.recheck > 0)) {
			break
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if s.timeout > 0 {
			wait, cancel = context.WithTimeout(ctx, s.timeout)
		}
		out, err := f.Wait(wait)
		cancel()
		if err == nil && h.acceptsOutcome(out) {
			return h.share(ctx, w, q, out)
		}
	}
	q.series.servedStale.Inc()
	return h.give(ctx, w, q, e)
}

// refresh fetches the entry's successor in the background, unless that is under way. It
// returns the flight, and whether this call began it; nil where too many are under way.
func (h *Handler) refresh(ctx context.Context, q *query, e *engine.Entry, stale bool) (*engine.Flight, bool) {
	select {
	case h.slots <- struct{}{}:
	default:
		return nil, false
	}
	f, lead := h.store.Join(q.key, "")
	if f == nil || !lead {
		<-h.slots
		return f, false
	}
	// The query's context and buffers end with it; what the goroutine needs is copied.
	rec := h.record(nil, q, f)
	rec.stale = stale
	bg, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	bg = answer.WithVerdict(bg, nil)
	bg = metadata.ContextWithMetadata(bg)
	bg = answer.WithPolicy(bg, &rec.policy)
	rec.ctx = bg
	q.series.prefetches.Inc()
	h.store.Refreshing()
	h.wg.Go(func() {
		defer func() { <-h.slots }()
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		h.background(rec, f, e)
	})
	return f, true
}

// prefetchRetry is how long a failed prefetch is not tried again: the entry is still good.
const prefetchRetry = time.Second

func (h *Handler) background(rec *recorder, f *engine.Flight, e *engine.Entry) {
	defer f.Abort()
	defer func() {
		// What panics below the server's own recover must not end the process.
		if p := recover(); p != nil {
			log.Errorf("refresh of an entry panicked: %v", p)
		}
	}()
	rcode, err := plugin.NextOrFailure(pluginName, h.Next, rec.ctx, rec, rec.req)
	out := rec.outcome(rcode, err)
	switch {
	case h.acceptsOutcome(out):
		e.Retry(time.Now(), 0)
	case rec.stale:
		e.Retry(time.Now(), h.opt.stale.recheck)
	default:
		e.Retry(time.Now(), prefetchRetry)
	}
	f.Finish(out)
}

// acceptsOutcome is accepts for what a fetch brought home, perhaps one that began as the
// fetch of a miss and was not filtered.
func (h *Handler) acceptsOutcome(out engine.Outcome) bool {
	switch {
	case out.Entry != nil:
		return out.Entry.Kind() != engine.Failure && (!h.opt.stale.preferPositive || out.Entry.Answers())
	default:
		return out.Msg != nil && h.accepts(out.Msg)
	}
}

// accepts says whether a response takes the place of stale data (RFC 8767, section 4):
// NOERROR and NXDOMAIN do, failures do not, and with prefer_positive only an answer does.
func (h *Handler) accepts(m *dns.Msg) bool {
	if m.Truncated {
		return false
	}
	kind, answers := engine.Classify(m, false, time.Now())
	if h.opt.stale.preferPositive {
		return kind == engine.Success && answers
	}
	return m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
}
