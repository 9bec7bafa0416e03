package fastpath

import (
	"math/rand/v2"
	"sync/atomic"
)

const (
	// draw is how many random replies are held of one answer.
	draw = 16
	// maxUses is how often each of them is repeated before another is drawn.
	maxUses = 64
)

// draws are replies to one query that differ at random, as an answer does whose
// addresses come in weighted order. Which of them a query gets is random, each is used a
// bounded number of times, and the chain makes every one of them: so the weights hold,
// to within what 1 in maxUses draws can show.
type draws struct {
	slots [draw]struct {
		entry atomic.Pointer[entry]
		uses  atomic.Uint32
	}
}

// pick returns a random reply, or nil where that one is still to be drawn.
func (d *draws) pick(now int64) *entry {
	s := &d.slots[rand.Uint32()%draw]
	e := s.entry.Load()
	if e == nil || !e.good(now) || s.uses.Add(1) > maxUses {
		return nil
	}
	return e
}

// add keeps e where a reply is missing or used up, if one is. The caller holds the
// table's lock.
func (d *draws) add(e *entry) {
	for i := range d.slots {
		s := &d.slots[i]
		if s.entry.Load() == nil || s.uses.Load() >= maxUses {
			s.entry.Store(e)
			s.uses.Store(0)
			return
		}
	}
}
