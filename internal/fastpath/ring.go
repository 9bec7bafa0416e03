package fastpath

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"

	"github.com/resolverd/resolverd/internal/answer"
)

const (
	// ringSlots and ringOctets are what a loop can hold of records and of their packets
	// until the reader took them: some 60 ms at 250,000 queries a second.
	ringSlots  = 1 << 14
	ringOctets = 1 << 20
	// maxWatches is how many may watch one reply.
	maxWatches = 32
)

// Watches are those who want to be told of repetitions of one reply. Immutable.
type Watches struct {
	list    []answer.Watch
	sampled bool // one of them does not want all
	packets bool // one of them wants packets
	size    int64
}

// NewWatches returns nil for nobody, and no where there are too many.
func NewWatches(list []answer.Watch) (*Watches, bool) {
	if len(list) == 0 {
		return nil, true
	}
	w := &Watches{list: list, size: 64}
	for _, o := range list {
		w.sampled = w.sampled || o.OneIn > 1
		w.packets = w.packets || o.Packets
		w.size += 48 + int64(o.Size)
	}
	return w, len(list) <= maxWatches
}

// choose returns who is told of one repetition, as bits of the list.
func (w *Watches) choose() uint32 {
	all := ^uint32(0) >> (maxWatches - len(w.list))
	if !w.sampled {
		return all
	}
	for i := range w.list {
		if n := w.list[i].OneIn; n > 1 && rand.Uint32N(n) != 0 {
			all &^= 1 << i
		}
	}
	return all
}

// record is one answered query.
type record struct {
	watches *Watches
	peer    sockaddr
	at      int64  // when it was taken in, of the engine's clock
	took    int64  // nanoseconds, or ofBatch
	end     uint64 // of its packets in the arena
	chosen  uint32 // who of watches is told
	id      uint16
	asked   uint16 // octets of the query in the arena, the reply's behind them
	given   uint16
}

// ofBatch in record.took stands for what the batch takes, which is known when it left.
const ofBatch = -1

// ring hands the records of one goroutine that answers to the reader. Neither waits for
// the other: what finds no room is dropped and counted.
type ring struct {
	reader *reader
	slots  []record // none until somebody watches
	arena  []byte

	// Of the goroutine that answers.
	next, begun uint64 // behind the last record, behind the last published one
	used        uint64 // of the arena
	tailSeen    uint64
	freeSeen    uint64
	_           [64]byte

	head atomic.Uint64 // behind the last record that the reader may take
	_    [64]byte
	tail atomic.Uint64 // first record that it did not take
	free atomic.Uint64 // octets of the arena that it is done with
}

// grow gives the ring its memory, before any entry with watches can be answered.
func (r *ring) grow(slots, octets int) {
	if r.slots == nil {
		r.slots, r.arena = make([]record, slots), make([]byte, octets)
	}
}

// note records the answer given to the query q of peer at a moment of the engine's clock.
// took is in nanoseconds, or ofBatch. publish shows it to the reader. It neither
// allocates nor waits.
func (r *ring) note(w *Watches, q, reply []byte, peer *sockaddr, at, took int64) {
	chosen := w.choose()
	if chosen == 0 {
		return
	}
	if r.next-r.tailSeen == uint64(len(r.slots)) {
		if r.tailSeen = r.tail.Load(); r.next-r.tailSeen == uint64(len(r.slots)) {
			r.reader.lost.Add(1)
			return
		}
	}
	s := &r.slots[r.next%uint64(len(r.slots))]
	s.asked, s.given = 0, 0
	if w.packets {
		room, ok := r.reserve(uint64(len(q) + len(reply)))
		if !ok {
			r.reader.lost.Add(1)
			return
		}
		s.asked, s.given = uint16(copy(room, q)), uint16(copy(room[len(q):], reply))
	}
	s.watches, s.peer, s.at, s.took, s.end, s.chosen = w, *peer, at, took, r.used, chosen
	s.id = uint16(q[0])<<8 | uint16(q[1])
	r.next++
}

// reserve takes n octets of the arena, which lie together.
func (r *ring) reserve(n uint64) ([]byte, bool) {
	size := uint64(len(r.arena))
	from := r.used
	if rest := size - from%size; rest < n {
		from += rest
	}
	if from+n-r.freeSeen > size {
		if r.freeSeen = r.free.Load(); from+n-r.freeSeen > size {
			return nil, false
		}
	}
	r.used = from + n
	return r.arena[from%size : from%size+n], true
}

// publish shows the reader what was noted since the last call, took being what a query
// of the batch took in nanoseconds.
func (r *ring) publish(took int64) {
	if r.next == r.begun {
		return
	}
	for ; r.begun < r.next; r.begun++ {
		if s := &r.slots[r.begun%uint64(len(r.slots))]; s.took == ofBatch {
			s.took = took
		}
	}
	r.head.Store(r.next)
	if !r.half() {
		r.reader.nudge(false)
		return
	}
	r.tailSeen, r.freeSeen = r.tail.Load(), r.free.Load()
	r.reader.nudge(r.half())
}

// half says whether half of the ring is in use, as far as was seen.
func (r *ring) half() bool {
	return 2*(r.next-r.tailSeen) > uint64(len(r.slots)) || 2*(r.used-r.freeSeen) > uint64(len(r.arena))
}

// take calls f for each record that was published when it began, and returns how many.
func (r *ring) take(f func(s *record, q, reply []byte)) int {
	head, tail := r.head.Load(), r.tail.Load()
	for i := tail; i < head; i++ {
		s := &r.slots[i%uint64(len(r.slots))]
		var q, reply []byte
		if n := uint64(s.asked) + uint64(s.given); n > 0 {
			from := (s.end - n) % uint64(len(r.arena))
			q = r.arena[from : from+uint64(s.asked)]
			reply = r.arena[from+uint64(s.asked) : from+n]
		}
		f(s, q, reply)
		s.watches = nil // its Corefile may be gone
		r.free.Store(s.end)
		r.tail.Store(i + 1)
	}
	return int(head - tail)
}

// each calls f for each of the chosen.
func (s *record) each(f func(w *answer.Watch)) {
	for c := s.chosen; c != 0; c &= c - 1 {
		f(&s.watches.list[bits.TrailingZeros32(c)])
	}
}
