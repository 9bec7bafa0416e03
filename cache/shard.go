package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// shard holds a part of the keys. Its eviction is S3-FIFO (Yang and others, SOSP 2023):
// what is new enters a small queue, a tenth of what is stored; what was asked again while
// there moves on to the main queue, the rest leaves and is remembered by its hash alone;
// what comes back while remembered enters the main queue at once. A flood of names that
// are asked once so passes through the small queue and touches nothing else.
//
// Answers and denials have lists of their own, because each has its own bound; the one
// that has waited longer goes first, so that without bounds they behave as one queue.
type shard struct {
	mu      sync.RWMutex // guards all down to the counters, and the queue fields of entries
	entries map[uint64]*Entry
	small   [2]list
	main    [2]list
	ghost   ghost
	seq     uint64
	flights map[string]*Flight
	total   *[2]atomic.Int64 // entries by class over all shards

	hits, stale, misses [2]atomic.Uint64 // by class, misses in the first only
	evicted             [2]atomic.Uint64
	stored, refused     atomic.Uint64
	_                   [64]byte // keeps neighbours off this line
}

func (s *shard) bytes() int64 {
	return s.small[0].bytes + s.small[1].bytes + s.main[0].bytes + s.main[1].bytes
}

func (s *shard) count(class int) int { return s.small[class].len + s.main[class].len }

// insert puts e where its hash says, in place of what was there, and makes room for it.
// It returns how many entries of each class it evicted.
func (s *shard) insert(e *Entry, budget int64, most [2]int, now time.Time) (evicted [2]int) {
	was := [2]uint64{s.evicted[0].Load(), s.evicted[1].Load()}
	if old := s.entries[e.hash]; old != nil {
		main := old.main
		s.unlink(old)
		if string(old.key()) == string(e.key()) {
			e.inherit(old)
			e.main = main
		}
	} else if s.ghost.take(e.hash) {
		e.main = true
	}
	c := class(e.kind)
	for most[c] > 0 && s.count(c) >= most[c] {
		s.evict(c, now)
	}
	for s.bytes()+e.cost() > budget {
		if !s.evict(-1, now) {
			break
		}
	}
	s.entries[e.hash] = e
	s.enqueue(e)
	s.total[c].Add(1)
	return [2]int{int(s.evicted[0].Load() - was[0]), int(s.evicted[1].Load() - was[1])}
}

func (s *shard) enqueue(e *Entry) {
	s.seq++
	e.seq = s.seq
	if e.main {
		s.main[class(e.kind)].push(e)
	} else {
		s.small[class(e.kind)].push(e)
	}
}

// unlink takes e out of the shard.
func (s *shard) unlink(e *Entry) {
	s.dequeue(e)
	delete(s.entries, e.hash)
	s.total[class(e.kind)].Add(-1)
}

func (s *shard) dequeue(e *Entry) {
	if e.main {
		s.main[class(e.kind)].remove(e)
	} else {
		s.small[class(e.kind)].remove(e)
	}
}

// evict removes one entry of the class, or of any where class is -1. It returns false
// where there is none.
func (s *shard) evict(class int, now time.Time) bool {
	// Every turn but the last lowers a frequency or moves an entry on; readers may raise
	// a frequency meanwhile, hence the end.
	for turns := 4*len(s.entries) + 4; ; turns-- {
		small, main := oldest(&s.small, class), oldest(&s.main, class)
		switch {
		case small == nil && main == nil:
			return false
		case small != nil && (main == nil || 10*(s.small[0].bytes+s.small[1].bytes) >= s.bytes()):
			if small.freq.Load() > 0 && turns > 0 && !small.dead(now) {
				s.dequeue(small)
				small.main = true
				small.freq.Store(0)
				s.enqueue(small)
				continue
			}
			s.drop(small, now)
			return true
		default:
			if f := main.freq.Load(); f > 0 && turns > 0 && !main.dead(now) {
				s.dequeue(main)
				main.freq.Store(f - 1)
				s.enqueue(main)
				continue
			}
			s.drop(main, now)
			return true
		}
	}
}

func (s *shard) drop(e *Entry, now time.Time) {
	if !e.main && !e.dead(now) {
		s.ghost.add(e.hash, len(s.entries))
	}
	s.evicted[class(e.kind)].Add(1)
	s.unlink(e)
}

// dead says that the entry is of no use to anybody, whatever the stale window: it is
// worth no second turn in a queue.
func (e *Entry) dead(now time.Time) bool {
	return e.Stale(now) && (e.noStale || e.kind == Failure)
}

// oldest returns the tail that was queued first.
func oldest(q *[2]list, class int) *Entry {
	if class >= 0 {
		return q[class].tail
	}
	a, b := q[0].tail, q[1].tail
	if a == nil || (b != nil && b.seq < a.seq) {
		return b
	}
	return a
}
