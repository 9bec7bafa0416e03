package forward

import (
	"slices"
	"time"

	engine "github.com/resolverd/resolverd/forward"
)

// Wire is the last forward of a server block for who asks its upstreams by a courier.
type Wire struct{ f *Forward }

// All returns f and the forwards behind it in its block, in their order.
func (f *Forward) All() []*Forward {
	all := []*Forward{f}
	for {
		next, ok := f.Next.(*Forward)
		if !ok {
			return all
		}
		all, f = append(all, next), next
	}
}

// Wire returns f, and the zones whose names f does not take itself: those of the
// directives before it and its own exceptions. It says no where what is asked for takes
// messages: a reply that leads to another plugin, dnstap.
func (f *Forward) Wire(before []*Forward) (w Wire, not []string, ok bool) {
	if len(f.links) > 0 || len(f.taps) > 0 || f.Next != nil && (len(f.next) > 0 || f.nextOnNodata) {
		return w, nil, false
	}
	not = slices.Clone(f.except)
	for _, b := range before {
		not = append(not, b.from)
	}
	return Wire{f}, not, true
}

// From returns the zone of the directive.
func (w Wire) From() string { return w.f.from }

// Begin begins an errand to the directive's upstreams; its Pool and Refuse are set here.
// Whoever begins one calls End when it is over.
func (w Wire) Begin(c *engine.Courier, e engine.Errand, now time.Time) bool {
	if !w.f.limit.Enter() {
		return false // the chain says so, if there is no room then either
	}
	e.Pool, e.Refuse = w.f.pool, w.f.loops
	if !c.Begin(e, now) {
		w.f.limit.Leave()
		return false
	}
	return true
}

// End makes room for another query.
func (w Wire) End() { w.f.limit.Leave() }
