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

// ghost remembers the hashes of entries that left the small queue unused: each in the
// one place that its hash says, until another one takes it. So about as many are
// remembered as there are places, the later the likelier, for four octets each.
type ghost struct {
	places []uint32 // a power of two
}

// add remembers h; about limit hashes are to be remembered.
func (g *ghost) add(h uint64, limit int) {
	if limit > len(g.places) {
		// What was remembered is lost, as the places are others now. Nothing leaves a queue
		// while a cache grows, so that there is little.
		n := 16
		for n < limit {
			n *= 2
		}
		g.places = make([]uint32, n)
	}
	g.places[int(h)&(len(g.places)-1)] = mark(h)
}

// take forgets h and says whether it was remembered.
func (g *ghost) take(h uint64) bool {
	if len(g.places) == 0 {
		return false
	}
	at := &g.places[int(h)&(len(g.places)-1)]
	if *at != mark(h) {
		return false
	}
	*at = 0
	return true
}

// mark is what is kept of a hash beside its place; never 0.
func mark(h uint64) uint32 { return uint32(h>>26) | 1 }

// class is which of the two bounds on the number of entries counts an entry.
func class(k Kind) int {
	if k.Denial() {
		return 1
	}
	return 0
}
