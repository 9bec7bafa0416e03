package check

import (
	"container/heap"
	"context"
	"time"

	"github.com/resolverd/resolverd/registry"
)

// Classes of probes, each with a bound of its own.
const (
	classNet = iota
	classScript
)

// item is a check that is run here.
type item struct {
	check *registry.Check // as the view showed it last
	rules rules
	phase time.Duration
	class int
	state state
	gone  bool // no longer in the registry, or replaced

	prober prober // nil until its first run; the running probe's while there is one
	hinted bool   // the log had its hint about this script

	runAt    time.Time // next run; zero while it runs or waits to, and for ttl
	started  time.Time
	cancel   context.CancelFunc // of the run, nil without one
	deadline time.Time          // when a ttl check expires

	queued  bool          // in Runner.writes
	writing bool          // a report is on its way
	retryAt time.Time     // not to be reported before
	backoff time.Duration // last pause between two tries
	reapAt  time.Time     // not to be reaped before
	reaped  bool

	at    time.Time // the earliest of all that
	index int       // in the heap
}

// soonest returns the earliest time that is not zero, or a far one.
func soonest(ts ...time.Time) time.Time {
	var best time.Time
	for _, t := range ts {
		if !t.IsZero() && (best.IsZero() || t.Before(best)) {
			best = t
		}
	}
	return best
}

// settle looks what the item's state asks for, puts it where it waits to be done, and
// sets the item's place in the heap.
func (r *Runner) settle(it *item, now time.Time) {
	if it.gone {
		return
	}
	a := it.state.due(it.rules, now)
	writeAt := a.writeAt
	if a.write && !it.writing && !it.queued {
		if it.retryAt.After(now) {
			writeAt = it.retryAt
		} else {
			it.queued = true
			r.writes = append(r.writes, it)
		}
	}
	reapAt := a.reapAt
	if a.reap && !it.reaped {
		reapAt = r.reap(it, now)
	}
	it.at = soonest(it.runAt, it.deadline, writeAt, reapAt)
	if it.at.IsZero() {
		it.at = now.Add(time.Hour)
	}
	if !it.at.After(now) {
		it.at = now.Add(time.Millisecond) // so that nobody spins, whatever the state asks for
	}
	heap.Fix(&r.due, it.index)
}

// dueHeap orders items by when something is to be done about them.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *dueHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}
