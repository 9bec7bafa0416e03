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

// Lacks says whether there is nothing under the key of a plain query, be it fresh or
// stale. epoch is for Keep.
func (w *Wire) Lacks(key []byte) (epoch uint64, ok bool) {
	epoch = w.h.store.Epoch().Load()
	return epoch, w.h.store.Peek(key) == nil
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
