package fastpath

import "time"

const (
	// maxTally bounds the entries whose hits are not told yet: as many as a table has.
	maxTally = maxEntries
	// tellWithin is about how old a hit becomes before it is told.
	tellWithin = time.Second
	// tellIdle is how many entries' hits are told at a time while nothing else is to do.
	tellIdle = 256
)

// tally is the entries of one loop that have hits which are not told yet, oldest first.
// To tell costs more than to answer, so that it is put off until several can be told at
// once, and then spread evenly: no query waits for all of them.
type tally struct {
	ring   []*entry // a power of two
	head   int
	length int
	took   time.Duration // of a query in the last batch
	told   time.Time     // when the last were told
	owed   float64       // entries that are due, as far as they are not whole
}

func newTally() tally { return tally{ring: make([]*entry, maxTally)} }

// hit counts a hit on e.
func (t *tally) hit(e *entry) {
	if e.hits.Add(1) > 1 {
		return
	}
	if t.length == len(t.ring) {
		t.tell(1)
	}
	t.ring[(t.head+t.length)&(len(t.ring)-1)] = e
	t.length++
}

// tellDue tells so many that all are told within [tellWithin].
func (t *tally) tellDue(now time.Time) {
	passed := now.Sub(t.told)
	t.told = now
	if t.length == 0 {
		t.owed = 0
		return
	}
	t.owed += float64(t.length) * min(passed.Seconds()/tellWithin.Seconds(), 1)
	if n := int(t.owed); n > 0 {
		t.owed -= float64(n)
		t.tell(n)
	}
}

// tell tells the sinks of the hits on the n oldest entries.
func (t *tally) tell(n int) {
	for range min(n, t.length) {
		e := t.ring[t.head]
		t.ring[t.head] = nil
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.length--
		if n := e.hits.Swap(0); n > 0 && e.sink != nil {
			e.sink(n, t.took)
		}
	}
}
