package fastpath

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/resolverd/resolverd/internal/answer"
)

// witness is an answer.Watcher that keeps what it is told.
type witness struct {
	mu      sync.Mutex
	told    []answer.Repetition
	notes   []any
	flushed int
	hold    chan struct{} // it takes nothing until this is closed
}

func (w *witness) Repeated(note any, r *answer.Repetition) {
	if w.hold != nil {
		<-w.hold
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := *r
	c.Query, c.Response = bytes.Clone(r.Query), bytes.Clone(r.Response)
	w.told, w.notes = append(w.told, c), append(w.notes, note)
}

func (w *witness) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushed++
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told)
}

func watchedBy(t testing.TB, list ...answer.Watch) *Watches {
	t.Helper()
	w, ok := NewWatches(list)
	if !ok {
		t.Fatal("too many")
	}
	return w
}

func newRing(slots, octets int) *ring {
	r := &ring{reader: newReader(slog.New(slog.DiscardHandler))}
	r.grow(slots, octets)
	return r
}

// TestRing compares a small ring with a plain queue, over all its corners.
func TestRing(t *testing.T) {
	const slots, octets = 8, 192 // more than two of the largest: the end of the arena may be of no use
	r := newRing(slots, octets)
	with, without := watchedBy(t, answer.Watch{Packets: true}), watchedBy(t, answer.Watch{})
	type item struct{ q, reply []byte }
	var model []item
	rnd := rand.New(rand.NewPCG(1, 2))
	published, noted, lost := 0, 0, 0
	for range 100_000 {
		switch rnd.IntN(4) {
		case 0, 1:
			q, reply := make([]byte, 2+rnd.IntN(30)), make([]byte, rnd.IntN(40))
			for i := range q {
				q[i] = byte(rnd.IntN(256))
			}
			for i := range reply {
				reply[i] = byte(rnd.IntN(256))
			}
			w, want := with, item{q, reply}
			if rnd.IntN(3) == 0 {
				w, want = without, item{q[:2], nil}
			}
			before := r.reader.lost.Load()
			r.note(w, q, reply, &sockaddr{}, 0, 0)
			if r.reader.lost.Load() != before {
				lost++
				if len(model) < 1 {
					t.Fatal("no room in an empty ring")
				}
				continue
			}
			model = append(model, want)
			noted++
		case 2:
			r.publish(7)
			published = len(model)
		case 3:
			i := 0
			n := r.take(func(s *record, q, reply []byte) {
				if id := uint16(model[i].q[0])<<8 | uint16(model[i].q[1]); s.id != id {
					t.Fatalf("id %d, want %d", s.id, id)
				}
				if model[i].reply != nil && (!bytes.Equal(q, model[i].q) || !bytes.Equal(reply, model[i].reply)) {
					t.Fatalf("%x %x, want %x %x", q, reply, model[i].q, model[i].reply)
				}
				if model[i].reply == nil && (q != nil || reply != nil) {
					t.Fatal("packets that nobody wants")
				}
				i++
			})
			if n != published || i != n {
				t.Fatalf("%d taken, %d published", n, published)
			}
			model, published = model[n:], 0
		}
		if len(model) > slots {
			t.Fatal("more than it can hold")
		}
	}
	if noted < 1000 || lost < 1000 {
		t.Errorf("%d noted, %d lost", noted, lost)
	}
}

func TestDurationOfTheBatch(t *testing.T) {
	r := newRing(4, 0)
	w := watchedBy(t, answer.Watch{})
	q := make([]byte, 12)
	r.note(w, q, nil, &sockaddr{}, 1, ofBatch)
	r.note(w, q, nil, &sockaddr{}, 2, 50)
	r.publish(9)
	r.note(w, q, nil, &sockaddr{}, 3, ofBatch)
	var got []int64
	r.take(func(s *record, _, _ []byte) { got = append(got, s.took) })
	if !slices.Equal(got, []int64{9, 50}) {
		t.Errorf("got %v", got)
	}
}

func TestChoose(t *testing.T) {
	w := watchedBy(t, answer.Watch{OneIn: 1}, answer.Watch{OneIn: 4}, answer.Watch{})
	var n [3]int
	for range 10_000 {
		for i := range n {
			if w.choose()&(1<<i) != 0 {
				n[i]++
			}
		}
	}
	if n[0] != 10_000 || n[2] != 10_000 || n[1] < 2200 || n[1] > 2800 {
		t.Errorf("chosen %v", n)
	}
	if w, ok := NewWatches(nil); w != nil || !ok {
		t.Error("nobody watches")
	}
	if _, ok := NewWatches(make([]answer.Watch, maxWatches)); !ok {
		t.Error("as many as may be are too many")
	}
	if _, ok := NewWatches(make([]answer.Watch, maxWatches+1)); ok {
		t.Error("more than there are bits")
	}
}

// TestNoteDoesNotAllocate is the hit of TestNoAllocation as far as it concerns watchers.
func TestNoteDoesNotAllocate(t *testing.T) {
	r := newRing(64, 1<<12)
	w := watchedBy(t, answer.Watch{}, answer.Watch{OneIn: 2, Packets: true})
	q, reply, peer := make([]byte, 40), make([]byte, 100), &sockaddr{}
	take := func(*record, []byte, []byte) {}
	if n := testing.AllocsPerRun(10_000, func() {
		for range 32 {
			r.note(w, q, reply, peer, 1, ofBatch)
		}
		r.publish(5)
		if rand.IntN(4) > 0 { // else it is full at times
			r.take(take)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if r.reader.lost.Load() == 0 {
		t.Error("it was never full")
	}
}

// TestHitDoesNotAllocate runs a batch of hits through the loop's own code, from and to
// sockets, with somebody watching.
func TestHitDoesNotAllocate(t *testing.T) {
	e, _, p := learnt(t, "www.example.test.", func(e *entry) {
		e.watches = watchedBy(t, answer.Watch{}, answer.Watch{Packets: true})
		e.until = clock(time.Now().Add(time.Hour))
	})
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	to := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	pl := &plane{}
	s, err := openSocket(pl, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	g := &Generation{Config: Config{Table: NewTable()}}
	pl.gen.Store(g)
	r := newRing(1024, 1<<16)
	b := newBatch(r)
	for i := range batchSize {
		copy(b.inBuf[i][:], p)
		b.in[i].n = uint32(len(p))
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.peers[i].raw))
		v4.Family, v4.Addr = unix.AF_INET, to.Addr().As4()
		v4.Port = to.Port()>>8 | to.Port()<<8
		b.in[i].Namelen = unix.SizeofSockaddrInet4
	}
	class := g.class(s, &b.peers[0])
	var q query
	q.parse(p)
	e.key = appendKey(nil, 0, class, &q)
	g.Table.put(e, 0)
	take := func(*record, []byte, []byte) {}
	b.answer(s, batchSize) // which puts the entry among the dirty
	if n := testing.AllocsPerRun(100, func() {
		b.answer(s, batchSize)
		r.take(take)
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	if h := g.Counts().Hits; h < 100*batchSize {
		t.Errorf("%d hits", h)
	}
}

// watchedChain is chain, whose replies w watches.
func watchedChain(c *chain, w *witness, note any) Handler {
	return func(ctx context.Context, rw dns.ResponseWriter, r *dns.Msg) Sink {
		answer.FromContext(ctx).Watch(answer.Watch{To: w, Note: note, Packets: true})
		return c.serve(ctx, rw, r)
	}
}

// TestWatched: each repetition is told once, with the packets, and before Retire returns;
// those of an old generation to whom watched that one.
func TestWatched(t *testing.T) {
	e := New(nil)
	addr, _ := listen(t)
	var last *Generation
	var total int
	for load := range 3 {
		c, w := &chain{address: "192.0.2.1"}, &witness{}
		g, err := e.Adopt(Config{Addr: addr, Local: net.UDPAddrFromAddrPort(addr), Table: NewTable(), Serve: watchedChain(c, w, load), Watched: true})
		if err != nil {
			t.Fatal(err)
		}
		if last != nil {
			if err := e.Retire(last); err != nil {
				t.Error(err)
			}
		}
		const asked = 100
		begin := time.Now()
		for range asked {
			if got := ask(t, addr, "a.test."); got != "192.0.2.1" {
				t.Fatalf("got %q", got)
			}
		}
		e.Flush()
		if n := w.count(); n != asked-int(c.asked.Load()) || n == 0 {
			t.Errorf("%d told, %d asked the chain of %d", n, c.asked.Load(), asked)
		}
		total += w.count()
		for i, r := range w.told {
			if !r.Client.Addr().IsLoopback() || r.Client.Port() == 0 || r.At.Before(begin.Add(-time.Millisecond)) || r.Took <= 0 || r.At.Add(r.Took).After(time.Now().Add(time.Millisecond)) {
				t.Errorf("told %+v", r)
			}
			if w.notes[i] != load {
				t.Errorf("note %v of load %d", w.notes[i], load)
			}
			q, m := new(dns.Msg), new(dns.Msg)
			if q.Unpack(r.Query) != nil || m.Unpack(r.Response) != nil || q.Id != r.ID || m.Id != r.ID || len(m.Answer) != 1 {
				t.Errorf("packets %x and %x", r.Query, r.Response)
			}
		}
		if w.flushed == 0 || w.flushed > len(w.told) {
			t.Errorf("flushed %d times", w.flushed)
		}
		last = g
		if load == 2 {
			// What is answered last is told when Close returns.
			n := w.count()
			for range 50 {
				ask(t, addr, "a.test.")
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if got := w.count(); got != n+50 {
				t.Errorf("%d told at the end, want %d", got, n+50)
			}
		}
	}
	if e.Lost() != 0 {
		t.Errorf("%d of %d lost", e.Lost(), total)
	}
}

// TestRetireTells: when a replaced generation is retired, its watchers know all.
func TestRetireTells(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	watched := func() (*Generation, *chain, *witness) {
		c, w := &chain{address: "192.0.2.1"}, &witness{}
		g, err := e.Adopt(Config{Addr: addr, Local: net.UDPAddrFromAddrPort(addr), Table: NewTable(), Serve: watchedChain(c, w, 0), Watched: true})
		if err != nil {
			t.Fatal(err)
		}
		return g, c, w
	}
	g, c, w := watched()
	for range 20 {
		const asked = 20
		for range asked {
			ask(t, addr, "a.test.")
		}
		next, nextChain, nextWitness := watched()
		if err := e.Retire(g); err != nil {
			t.Error(err)
		}
		if n := w.count() + int(c.asked.Load()); n != asked {
			t.Fatalf("%d told and asked of %d", n, asked)
		}
		g, c, w = next, nextChain, nextWitness
	}
}

// TestUnwatched: a reply whose watcher this listener does not tell is not repeated.
func TestUnwatched(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	c, w := &chain{address: "192.0.2.1"}, &witness{}
	if _, err := e.Adopt(Config{Addr: addr, Local: net.UDPAddrFromAddrPort(addr), Table: NewTable(), Serve: watchedChain(c, w, 0)}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		ask(t, addr, "a.test.")
	}
	if c.asked.Load() != 5 || w.count() != 0 {
		t.Errorf("%d asked the chain, %d told", c.asked.Load(), w.count())
	}
}

// TestStuckWatcher: hits go on while nobody takes records, what finds no room is counted
// and logged, and the rest is told in the end.
func TestStuckWatcher(t *testing.T) {
	var out lockedBuffer
	e := New(slog.New(slog.NewTextHandler(&out, nil)))
	addr, _ := listen(t)
	c, w := &chain{address: "192.0.2.1"}, &witness{hold: make(chan struct{})}
	g, err := e.Adopt(Config{Addr: addr, Local: net.UDPAddrFromAddrPort(addr), Table: NewTable(), Serve: watchedChain(c, w, 0), Watched: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := pack(t, new(dns.Msg).SetQuestion("a.test.", dns.TypeA))
	buf := make([]byte, 512)
	const asked = ringSlots + 2000
	for range asked {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	close(w.hold)
	if err := e.Retire(g); err != nil {
		t.Error(err)
	}
	if n := w.count() + int(e.Lost()) + int(c.asked.Load()); e.Lost() == 0 || n != asked {
		t.Errorf("%d told, %d lost and %d misses of %d", w.count(), e.Lost(), c.asked.Load(), asked)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("dropped=%d", e.Lost()); !strings.Contains(out.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, out.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
