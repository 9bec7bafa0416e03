package cache

import (
	"time"

	engine "github.com/resolverd/resolverd/cache"
)

// Wire is the cache of a server block for who answers plain queries without messages, on
// one listener.
type Wire struct {
	h *Handler
	s *series
}

// Wire returns h for the server that CoreDNS's metrics call so. It says no where what
// the directive asks for takes messages: names that pass by, or whose answers are not
// kept.
func (h *Handler) Wire(server string) (*Wire, bool) {
	if len(h.bypass)+len(h.opt.noSuccess)+len(h.opt.noDenial) > 0 {
		return nil, false
	}
	return &Wire{h: h, s: h.seriesOf(server)}, true
}

// Zones returns the zones that the directive covers, in presentation form and lower case.
func (h *Handler) Zones() []string { return h.opt.zones }

// Found is what the cache has for a plain query.
type Found struct {
	// Reply is the reply without OPT; nil where there is none to be given here.
	Reply []byte
	// Nothing says that nothing is under the key, be it fresh or stale. Where it is false
	// and there is no Reply, what there is takes the plugin.
	Nothing bool
	// Epoch is for Keep.
	Epoch uint64
	entry *engine.Entry
}

// Find looks for a reply to a plain query with this key, and appends it to dst. It gives
// none but to the first query of a fresh entry: what is asked for again the plugin shares,
// and it is repeated from then on. What is given is for Given.
func (w *Wire) Find(key, dst []byte, r engine.Reply, now time.Time) Found {
	f := Found{Epoch: w.h.store.Epoch().Load()}
	e := w.h.store.Peek(key)
	switch {
	case e == nil:
		f.Nothing = true
	case e.Stale(now) || !e.Cold() || e.Kind() == engine.Failure || len(e.EDE()) > 0 || e.Tag() != "" || w.h.opt.prefetch.amount > 0:
	default:
		r.KeepTTL = w.h.opt.keepTTL
		f.Reply, f.entry = e.AppendReply(dst, r, now), e
	}
	return f
}

// Given counts a reply of Find that was given to the client.
func (w *Wire) Given(f Found, now time.Time) {
	w.s.requests.Inc()
	w.s.hits[class(f.entry.Kind())].Inc()
	w.h.store.Repeated(f.entry, 1, now, w.h.opt.prefetch.window)
}

// Prepare makes a response without OPT, which it may change, what the cache makes of it,
// for the client too. It says no, having changed nothing, where it takes a message.
func (w *Wire) Prepare(packet []byte) (engine.Wire, bool) {
	return engine.PrepareWire(packet, w.h.opt.terms)
}

// Keep stores what Prepare made of the response to a query that found nothing, and
// counts both.
func (w *Wire) Keep(key []byte, r engine.Wire, epoch uint64, now time.Time) {
	w.s.requests.Inc()
	w.s.misses.Inc()
	s, err := w.h.store.StoreWire(key, r, engine.Storage{
		Epoch: epoch, MaxStale: w.h.opt.stale.upTo, PreferPositive: w.h.opt.stale.preferPositive,
	}, now)
	if err != nil {
		log.Debugf("response is not kept: %v", err)
		return
	}
	w.s.stored(w.h.store, s)
}
