package cache

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func open(t testing.TB, z Size) *Cache {
	t.Helper()
	c, err := New("test", z)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// number returns the key of name n and a response whose address is n.
func number(n int, ttl uint32) ([]byte, Prepared) {
	name := fmt.Sprintf("host-%d.example.org.", n)
	q := dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}
	key, err := AppendQuestionKey(nil, q, RD)
	if err != nil {
		panic(err)
	}
	m := &dns.Msg{Question: []dns.Question{q}}
	m.Response = true
	a := &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: make([]byte, 4)}
	binary.BigEndian.PutUint32(a.A, uint32(n))
	m.Answer = []dns.RR{a}
	return key, Prepare(m, false, DefaultTerms(), epoch)
}

func (c *Cache) mustStore(t testing.TB, key []byte, p Prepared, now time.Time) Stored {
	t.Helper()
	s, err := c.Store(key, p, Storage{Epoch: c.epoch.Load()}, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHitDoesNotAllocate(t *testing.T) {
	c := open(t, Size{})
	key, p := number(7, 60)
	c.mustStore(t, key, p, epoch)
	name := []byte("\x06HOST-7\x07example\x03org\x00")
	r := Reply{ID: 1, RD: true, Question: name}
	now := epoch.Add(10 * time.Second)
	var keyBuf [MaxKey]byte
	var dst [512]byte
	var out []byte
	if n := testing.AllocsPerRun(1000, func() {
		k := AppendKey(keyBuf[:0], name, dns.TypeA, dns.ClassINET, RD)
		var info Info
		var ok bool
		if out, info, ok = c.Lookup(k, dst[:0], r, now); !ok || info.Entry == nil {
			t.Fatal("miss")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatal(err)
	}
	if m.Question[0].Name != "HOST-7.example.org." || m.Answer[0].Header().Ttl != 50 || m.Answer[0].Header().Name != "HOST-7.example.org." {
		t.Errorf("got %v", &m)
	}
	if n := testing.AllocsPerRun(100, func() { c.Lookup(key[:len(key)-1], dst[:0], r, now) }); n != 0 {
		t.Errorf("a miss allocates %v times", n)
	}
}

func TestReplyIsACopy(t *testing.T) {
	c := open(t, Size{})
	key, p := number(7, 60)
	c.mustStore(t, key, p, epoch)
	first, _, _ := c.Lookup(key, nil, Reply{}, epoch)
	for i := range first {
		first[i] = 0xFF
	}
	second, _, _ := c.Lookup(key, nil, Reply{}, epoch)
	var m dns.Msg
	if err := m.Unpack(second); err != nil || len(m.Answer) != 1 {
		t.Errorf("the stored packet was changed: %v, %v", &m, err)
	}
}

func TestReplyLeavesAnotherNameAlone(t *testing.T) {
	c := open(t, Size{})
	key, p := number(7, 60)
	c.mustStore(t, key, p, epoch)
	for _, name := range []string{"\x06host-8\x07example\x03org\x00", "\x01a\x00", ""} {
		out, _, _ := c.Lookup(key, nil, Reply{Question: []byte(name)}, epoch)
		var m dns.Msg
		if err := m.Unpack(out); err != nil || m.Question[0].Name != "host-7.example.org." {
			t.Errorf("%q: got %v, %v", name, &m, err)
		}
	}
}

func TestBudgetHolds(t *testing.T) {
	for _, z := range []Size{{Bytes: MinBytes}, {Bytes: 4 << 20}, {Bytes: 4 << 20, Success: 2000}} {
		t.Run(fmt.Sprint(z), func(t *testing.T) {
			c := open(t, z)
			for i := range 20000 {
				key, p := number(i, 60)
				c.mustStore(t, key, p, epoch)
			}
			st := c.Stats()
			if st.Bytes > z.Bytes {
				t.Errorf("%d bytes are over the budget of %d", st.Bytes, z.Bytes)
			}
			if z.Success > 0 && st.Success > z.Success+shards {
				t.Errorf("%d entries are over the bound of %d", st.Success, z.Success)
			}
			if want := 20000 - st.Success; int(st.SuccessEvictions) != want {
				t.Errorf("%d evictions, want %d", st.SuccessEvictions, want)
			}
			if s, d := c.Counts(); s != st.Success || d != 0 {
				t.Errorf("counts %d, %d do not match %d", s, d, st.Success)
			}
			// Less room later: what is over goes at once.
			if err := c.Resize(Size{Bytes: MinBytes, Success: 1024}, epoch); err != nil {
				t.Fatal(err)
			}
			if st := c.Stats(); st.Bytes > MinBytes || st.Success > 1024 {
				t.Errorf("after the resize %d bytes and %d entries", st.Bytes, st.Success)
			}
			if n := c.Flush(); n == 0 || c.Stats().Bytes != 0 {
				t.Errorf("flush dropped %d and left %d bytes", n, c.Stats().Bytes)
			}
		})
	}
}

// The budget is about real memory: what the heap grows by is near what is accounted.
func TestBudgetIsMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := open(t, Size{Bytes: 32 << 20})
	for i := range 150000 {
		key, p := number(i, 60)
		c.mustStore(t, key, p, epoch)
	}
	grown := float64(heap() - before)
	st := c.Stats()
	if st.SuccessEvictions == 0 {
		t.Fatal("the budget was not reached")
	}
	t.Logf("%.2f of what is accounted", grown/float64(st.Bytes))
	if r := grown / float64(st.Bytes); r < 0.6 || r > 1.15 {
		t.Errorf("the heap grew by %.1f MiB for %.1f MiB accounted", grown/(1<<20), float64(st.Bytes)/(1<<20))
	}
	runtime.KeepAlive(c)
}

func TestLargeResponseIsRefused(t *testing.T) {
	c := open(t, Size{Bytes: MinBytes})
	key, p := number(1, 60)
	for i := range 1000 {
		p.Msg.Answer = append(p.Msg.Answer, &dns.A{Hdr: p.Msg.Answer[0].(*dns.A).Hdr, A: []byte{10, 0, byte(i >> 8), byte(i)}})
	}
	if _, err := c.Store(key, p, Storage{Epoch: c.epoch.Load()}, epoch); err == nil {
		t.Error("a response of 16 kB was stored in shards of 16 KiB")
	}
	if st := c.Stats(); st.Refused != 1 || st.Success != 0 {
		t.Errorf("got %+v", st)
	}
}

// bare makes an entry without packing a message, for tests of eviction.
func (c *Cache) bare(n uint64) *Entry {
	key := make([]byte, 0, 32)
	key = append(key, 0, 0, 1, 0, 1, 16)
	for i := range 16 {
		key = append(key, "0123456789abcdef"[n>>(4*i)&15])
	}
	key = append(key, 0)
	e := &Entry{stored: clock(epoch), life: int64(time.Hour), kind: Success}
	e.make(key, make([]byte, 12), nil)
	return e
}

// hitRatio asks for draws names of a Zipf distribution, of which a share is replaced by
// names that never come again, and returns the hits among the others.
func hitRatio(draws int, flood float64, get func(n uint64) bool) float64 {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.01, 1, 200000)
	asked, hit := 0, 0
	once := uint64(1 << 40)
	for i := range draws {
		if r.Float64() < flood {
			once++
			get(once)
			continue
		}
		ok := get(z.Uint64())
		if i > draws/4 {
			asked++
			if ok {
				hit++
			}
		}
	}
	return float64(hit) / float64(asked)
}

func TestHitRatioBeatsLRU(t *testing.T) {
	for _, tc := range []struct {
		name  string
		flood float64
		draws int
		gain  float64 // at least, in hits per query
	}{
		{"zipf", 0, 400000, 0.02},
		{"zipf under 90 % random names", 0.9, 1000000, 0.08},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const capacity = 64 * 100
			c := open(t, Size{Success: capacity})
			ours := hitRatio(tc.draws, tc.flood, func(n uint64) bool {
				e := c.bare(n)
				if c.Find(e.key(), epoch, 0) != nil {
					return true
				}
				s, h := c.at(e.key())
				e.hash = h
				budget, most := c.bounds()
				s.insert(e, budget, most, epoch)
				return false
			})
			if n, _ := c.Counts(); n > capacity {
				t.Fatalf("%d entries", n)
			}
			l, err := lru.New[uint64, struct{}](capacity)
			if err != nil {
				t.Fatal(err)
			}
			theirs := hitRatio(tc.draws, tc.flood, func(n uint64) bool {
				if _, ok := l.Get(n); ok {
					return true
				}
				l.Add(n, struct{}{})
				return false
			})
			t.Logf("S3-FIFO %.1f %%, LRU %.1f %%", 100*ours, 100*theirs)
			if ours < theirs+tc.gain {
				t.Errorf("S3-FIFO %.1f %% against LRU %.1f %%", 100*ours, 100*theirs)
			}
		})
	}
}

func TestEvictionKeepsWhatWasAskedAgain(t *testing.T) {
	c := open(t, Size{Success: 1024})
	put := func(n uint64) {
		e := c.bare(n)
		s, h := c.at(e.key())
		e.hash = h
		_, most := c.bounds()
		s.insert(e, 1<<30, most, epoch)
	}
	for n := range uint64(100) {
		put(n)
		if c.Find(c.bare(n).key(), epoch, 0) == nil {
			t.Fatal("not found")
		}
	}
	for n := range uint64(20000) {
		put(1000 + n)
	}
	for n := range uint64(100) {
		if e := c.Peek(c.bare(n).key()); e == nil || !e.main {
			t.Errorf("entry %d did not outlive the flood", n)
		}
	}
}

func TestEvictionRemembersWhatComesBack(t *testing.T) {
	c := open(t, Size{Success: 1024})
	put := func(n uint64) {
		e := c.bare(n)
		s, h := c.at(e.key())
		e.hash = h
		budget, most := c.bounds()
		s.insert(e, budget, most, epoch)
	}
	for n := range uint64(1025) {
		put(n)
	}
	var lost []uint64
	for n := range uint64(1025) {
		if c.Peek(c.bare(n).key()) == nil {
			lost = append(lost, n)
		}
	}
	if len(lost) == 0 {
		t.Fatal("nothing was evicted")
	}
	back := 0
	for _, n := range lost {
		put(n)
		if e := c.Peek(c.bare(n).key()); e != nil && e.main {
			back++
		}
	}
	if back < len(lost)/2 {
		t.Errorf("of %d that came back %d are in the main queue", len(lost), back)
	}
}

// Every reply must be the one of its key, whatever else goes on.
func TestConcurrentUse(t *testing.T) {
	c := open(t, Size{Bytes: MinBytes})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			var dst []byte
			for range 4000 {
				n := r.IntN(5000)
				now := epoch.Add(time.Duration(r.IntN(100)) * time.Second)
				key, p := number(n, 60)
				switch r.IntN(10) {
				case 0, 1, 2:
					if _, err := c.Store(key, p, Storage{Epoch: c.epoch.Load()}, now); err != nil {
						t.Error(err)
					}
				case 3:
					if _, err := c.FlushName(fmt.Sprintf("host-%d.example.org", n)); err != nil {
						t.Error(err)
					}
				case 4:
					if r.IntN(100) == 0 {
						c.Flush()
						c.Zones(3)
						if err := c.Resize(Size{Bytes: MinBytes << r.IntN(2)}, now); err != nil {
							t.Error(err)
						}
					}
					c.Stats()
				case 5:
					if f, lead := c.Join(key, ""); lead {
						f.Finish(Outcome{Rcode: n})
					} else if out, err := f.Wait(t.Context()); err != nil || out.Rcode != n {
						t.Errorf("fetch of %d brought %+v, %v", n, out, err)
					}
				default:
					var ok bool
					if dst, _, ok = c.Lookup(key, dst[:0], Reply{}, now); ok {
						if got := binary.BigEndian.Uint32(dst[len(dst)-4:]); got != uint32(n) {
							t.Errorf("asked for %d, got %d", n, got)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if err := c.check(); err != nil {
		t.Error(err)
	}
}

// check compares what the shards say of themselves with what they hold.
func (c *Cache) check() error {
	total := [2]int{}
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		n, bytes := 0, int64(0)
		for k := range s.small {
			for _, l := range []*list{&s.small[k], &s.main[k]} {
				for e := l.tail; e != nil; e = e.prev {
					n++
					bytes += e.cost()
					if s.entries[e.hash] != e || class(e.kind) != k || e.main != (l == &s.main[k]) {
						s.mu.Unlock()
						return fmt.Errorf("shard %d: an entry is in the wrong queue", i)
					}
				}
			}
			total[k] += s.count(k)
		}
		if n != len(s.entries) || bytes != s.bytes() {
			s.mu.Unlock()
			return fmt.Errorf("shard %d: %d queued of %d entries, %d bytes of %d", i, n, len(s.entries), bytes, s.bytes())
		}
		s.mu.Unlock()
	}
	if s, d := c.Counts(); s != total[0] || d != total[1] {
		return fmt.Errorf("counts %d %d, want %v", s, d, total)
	}
	return nil
}

func TestZones(t *testing.T) {
	c := open(t, Size{})
	for _, n := range []string{"a.example.org.", "b.example.org.", "x.y.example.net.", "1.2.0.192.in-addr.arpa.", "org.", "."} {
		q := dns.Question{Name: n, Qtype: dns.TypeA, Qclass: dns.ClassINET}
		key, err := AppendQuestionKey(nil, q, RD)
		if err != nil {
			t.Fatal(err)
		}
		rr, err := dns.NewRR(n + " 60 IN A 192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		m := &dns.Msg{Question: []dns.Question{q}, Answer: []dns.RR{rr}}
		m.Response = true
		c.mustStore(t, key, Prepare(m, false, DefaultTerms(), epoch), epoch)
	}
	got := map[string]int{}
	for _, z := range c.Zones(10) {
		got[z.Suffix] = z.Entries
	}
	for suffix, n := range map[string]int{"example.org.": 2, "example.net.": 1, "192.in-addr.arpa.": 1, "org.": 1, ".": 1} {
		if got[suffix] != n {
			t.Errorf("%s has %d entries, want %d", suffix, got[suffix], n)
		}
	}
	if z := c.Zones(1); len(z) != 1 || z[0].Suffix != "example.org." {
		t.Errorf("the largest is %+v", z)
	}
}

func TestSizeValidate(t *testing.T) {
	for _, tc := range []struct {
		z  Size
		ok bool
	}{{Size{}, true}, {Size{Bytes: MinBytes}, true}, {Size{Bytes: MinBytes - 1}, false}, {Size{Success: -1}, false}, {Size{Denial: -1}, false}, {Size{Denial: 1}, true}} {
		if err := tc.z.Validate(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.z, err)
		}
	}
}

func TestPopular(t *testing.T) {
	e := &Entry{stored: clock(epoch)}
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for i, step := range []struct {
		at   int
		want bool
	}{{1, false}, {2, false}, {3, true}, {70, false}, {71, false}, {72, true}, {73, true}} {
		if got := e.Popular(at(step.at), time.Minute, 3); got != step.want {
			t.Errorf("query %d: %v", i, got)
		}
	}
	// The successor goes on counting.
	n := &Entry{stored: clock(at(80))}
	n.inherit(e)
	if !n.Popular(at(81), time.Minute, 3) {
		t.Error("the successor is not popular")
	}
	if n.Waiting(at(81)) {
		t.Error("waiting without a failure")
	}
	n.Retry(at(81), 30*time.Second)
	if !n.Waiting(at(110)) || n.Waiting(at(111)) {
		t.Error("the recheck timer is wrong")
	}
}

func BenchmarkLookup(b *testing.B) {
	c := open(b, Size{})
	keys := make([][]byte, 10000)
	for i := range keys {
		key, p := number(i, 3600)
		c.mustStore(b, key, p, epoch)
		keys[i] = key
	}
	b.RunParallel(func(pb *testing.PB) {
		var dst [512]byte
		for i := 0; pb.Next(); i++ {
			if _, _, ok := c.Lookup(keys[i%len(keys)], dst[:0], Reply{ID: 1}, epoch); !ok {
				b.Fail()
			}
		}
	})
}
