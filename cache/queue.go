package cache

// list is a FIFO of entries, linked through the entries themselves: push at the head,
// pop at the tail. The zero list is empty.
type list struct {
	head, tail *Entry
	bytes      int64
	len        int
}

func (l *list) push(e *Entry) {
	e.prev, e.next = nil, l.head
	if l.head != nil {
		l.head.prev = e
	} else {
		l.tail = e
	}
	l.head = e
	l.bytes += e.cost()
	l.len++
}

func (l *list) remove(e *Entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.prev, e.next = nil, nil
	l.bytes -= e.cost()
	l.len--
}

// ghost remembers the hashes of entries that left the small queue unused, the last of
// them and no more than there are entries.
type ghost struct {
	ring []uint64
	at   int // the oldest hash in ring
	n    int
	set  map[uint64]struct{}
}

// add remembers h among at most limit hashes.
func (g *ghost) add(h uint64, limit int) {
	if g.set == nil {
		g.set = map[uint64]struct{}{}
	}
	limit = max(limit, 16)
	for g.n >= limit {
		delete(g.set, g.ring[g.at])
		g.at = (g.at + 1) % len(g.ring)
		g.n--
	}
	if g.n == len(g.ring) {
		grown := make([]uint64, max(16, 2*len(g.ring)))
		for i := range g.n {
			grown[i] = g.ring[(g.at+i)%len(g.ring)]
		}
		g.ring, g.at = grown, 0
	}
	g.ring[(g.at+g.n)%len(g.ring)] = h
	g.n++
	g.set[h] = struct{}{}
}

// take forgets h and says whether it was remembered.
func (g *ghost) take(h uint64) bool {
	_, ok := g.set[h]
	delete(g.set, h)
	return ok
}

// class is which of the two bounds on the number of entries counts an entry.
func class(k Kind) int {
	if k.Denial() {
		return 1
	}
	return 0
}
