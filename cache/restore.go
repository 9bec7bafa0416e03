package cache

import "time"

// Record is an entry as it is kept outside of this process. Its slices are shared with
// the entry, which never changes.
type Record struct {
	Key, Packet []byte
	Kind        Kind
	Answers     bool
	NoStale     bool
	// Hot says that the entry was asked for again while it was here.
	Hot bool
	// Stored is when the response came, Life how long it is fresh from then on.
	Stored time.Time
	Life   time.Duration
	EDE    []EDE
	Tag    string
}

// Each calls f with every entry, the hot ones first, until f says no. No lock is held
// meanwhile: what is stored or dropped while it runs may be missing or not.
func (c *Cache) Each(f func(Record) bool) {
	var batch []*Entry
	for _, hot := range [...]bool{true, false} {
		for i := range c.shard {
			batch = c.shard[i].list(batch[:0], hot)
			for _, e := range batch {
				r := Record{
					Key: e.key(), Packet: e.packet(), Kind: e.kind, Answers: e.answers, NoStale: e.noStale, Hot: hot,
					Stored: e.Stored(), Life: e.Life(), EDE: e.EDE(), Tag: e.Tag(),
				}
				if !f(r) {
					return
				}
			}
			clear(batch)
		}
	}
}

// list appends the entries that are hot, or those that are not, the latest first.
func (s *shard) list(to []*Entry, hot bool) []*Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, q := range [...]*list{&s.main[0], &s.main[1], &s.small[0], &s.small[1]} {
		for e := q.head; e != nil; e = e.next {
			if (e.main || e.freq.Load() > 0) == hot {
				to = append(to, e)
			}
		}
	}
	return to
}

// Restore stores a record whose name has no entry, unless it is of no use any more: it
// has expired, by maxStale or more where it may be stale. epoch is what the cache's epoch
// read before the records were; a flush since then wins. It says whether it stored it.
func (c *Cache) Restore(r Record, maxStale time.Duration, epoch uint64, now time.Time) bool {
	w := Wire{Packet: r.Packet, Kind: r.Kind, Life: r.Life, Answers: r.Answers, EDE: r.EDE}
	if r.Kind <= Uncacheable || r.Kind > Failure || r.Life <= 0 {
		return false
	}
	e, err := newEntry(r.Key, w, Storage{NoStale: r.NoStale, Tag: r.Tag}, r.Stored)
	budget, most := c.bounds()
	if err != nil || e.age(now) < 0 || !e.usable(now, maxStale) || e.cost() > budget/2 {
		return false
	}
	e.main = r.Hot
	s, h := c.at(r.Key)
	e.hash = h
	s.mu.Lock()
	defer s.mu.Unlock()
	n := class(e.kind)
	if c.epoch.Load() != epoch || s.entries[h] != nil || s.bytes()+e.cost() > budget || most[n] > 0 && s.count(n) >= most[n] {
		return false
	}
	s.insert(e, budget, most, now)
	return true
}

// OnFlush has f called in each flush, before the flush returns; nil is nobody.
func (c *Cache) OnFlush(f func()) {
	if f == nil {
		c.onFlush.Store(nil)
		return
	}
	c.onFlush.Store(&f)
}

// Changes counts the entries that were stored and the flushes, from 0 for a new cache:
// where it stands, a copy of the cache is still true. What is restored is no change.
func (c *Cache) Changes() uint64 {
	n := c.epoch.Load() - 1
	for i := range c.shard {
		n += c.shard[i].stored.Load()
	}
	return n
}
