package fastpath

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

const (
	ways = 8
	// maxEntries and maxBytes bound a table.
	maxEntries = 1 << 16
	maxBytes   = 48 << 20
	locks      = 64
)

// Table holds what was learnt. A lookup takes no lock and does not allocate. One table
// belongs to one Corefile: the next one begins with nothing.
type Table struct {
	seed    maphash.Seed
	buckets []bucket
	mu      [locks]sync.Mutex // each guards the writes to its share of the buckets

	bytes, entries           atomic.Int64
	learnt, evicted, refused atomic.Uint64
}

// bucket is the few places where an entry may lie. A tag is a part of the hash: most
// strangers are told apart without looking at them.
type bucket struct {
	tags [ways]atomic.Uint32
	ways [ways]atomic.Pointer[entry]
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{seed: maphash.MakeSeed(), buckets: make([]bucket, maxEntries/ways)}
}

// Stats are counts of a table.
type Stats struct {
	Entries, Bytes           int64
	Learnt, Evicted, Refused uint64
}

// Stats returns the counts.
func (t *Table) Stats() Stats {
	return Stats{t.entries.Load(), t.bytes.Load(), t.learnt.Load(), t.evicted.Load(), t.refused.Load()}
}

func (t *Table) at(key []byte) (*bucket, uint32, int) {
	h := maphash.Bytes(t.seed, key)
	i := int(h % uint64(len(t.buckets)))
	return &t.buckets[i], uint32(h>>32) | 1, i
}

// find returns the entry of the key, whether good or not, or nil.
func (t *Table) find(key []byte) *entry {
	b, tag, _ := t.at(key)
	for i := range b.tags {
		if b.tags[i].Load() == tag {
			if e := b.ways[i].Load(); e != nil && string(e.key) == string(key) {
				return e
			}
		}
	}
	return nil
}

// get returns what may answer the query of the key at now, or nil.
func (t *Table) get(key []byte, q *query, now int64) *entry {
	e := t.find(key)
	if e == nil || !e.good(now) || (q.flags&flagMixed != 0 && !e.echo) {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	if e.draws != nil {
		return e.draws.pick(now)
	}
	return e
}

// put keeps e in the place of its predecessor, of what is no longer good, or of what
// nobody asked for since it was put there; where the bucket is all in use one of them
// goes. It refuses what the bytes have no room for.
func (t *Table) put(e *entry, now int64) {
	b, tag, i := t.at(e.key)
	mu := &t.mu[i%locks]
	mu.Lock()
	defer mu.Unlock()
	victim, best := 0, -1
	for i := range b.ways {
		old, worth := b.ways[i].Load(), 0
		switch {
		case old == nil:
			worth = 3
		case string(old.key) == string(e.key):
			if old.good(now) && old.draws != nil && e.draws != nil && old.epoch == e.epoch && old.seen == e.seen {
				old.draws.add(e)
				t.learnt.Add(1)
				return
			}
			worth = 4
		case !old.good(now):
			worth = 2
		case !old.used.Load():
			worth = 1
		}
		// Among equals a random one: a flood must not wash the same place always.
		if worth > best || worth == best && rand.Uint32()&1 == 0 {
			victim, best = i, worth
		}
	}
	if best == 0 {
		// All were asked for: they begin anew.
		for i := range b.ways {
			b.ways[i].Load().used.Store(false)
		}
	}
	old := b.ways[victim].Load()
	grown := e.cost()
	if old != nil {
		grown -= old.cost()
	}
	if t.bytes.Load()+grown > maxBytes && grown > 0 {
		t.refused.Add(1)
		return
	}
	t.bytes.Add(grown)
	if old == nil {
		t.entries.Add(1)
	} else if best < 2 {
		t.evicted.Add(1)
	}
	// A reader that sees the tag too early compares the key of the old entry.
	b.ways[victim].Store(e)
	b.tags[victim].Store(tag)
	t.learnt.Add(1)
}
