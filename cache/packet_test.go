package cache

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/miekg/dns"
)

func TestIndex(t *testing.T) {
	head := func(counts ...byte) []byte {
		p := []byte{0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		for i, n := range counts {
			p[5+2*i] = n
		}
		return p
	}
	q := []byte("\x01a\x00\x00\x01\x00\x01")
	rr := []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01")
	cat := func(parts ...[]byte) []byte {
		var out []byte
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for _, tc := range []struct {
		name string
		p    []byte
		ttls int // -1 for refused
	}{
		{"no answer", cat(head(1), q), 0},
		{"one", cat(head(1, 1), q, rr), 1},
		{"in each section", cat(head(1, 1, 1, 1), q, rr, rr, rr), 3},
		{"empty", nil, -1},
		{"header cut", head(1)[:11], -1},
		{"no question", head(0), -1},
		{"two questions", cat(head(2), q, q), -1},
		{"question cut", cat(head(1), q[:5]), -1},
		{"name cut", cat(head(1), q[:1]), -1},
		{"question points", cat(head(1), []byte("\xc0\x00\x00\x01\x00\x01")), -1},
		{"count without octets", cat(head(1, 255), q, rr), -1},
		{"one too many", cat(head(1, 2), q, rr), -1},
		{"rdata longer than packet", cat(head(1, 1), q, rr[:10], []byte{0xff, 0xff}, rr[12:]), -1},
		{"rr cut", cat(head(1, 1), q, rr[:9]), -1},
		{"pointer forward", cat(head(1, 1), q, []byte("\xc0\x40"), rr[2:]), -1},
		{"pointer to itself", cat(head(1, 1), q, []byte("\xc0\x13"), rr[2:]), -1},
		{"pointer cut", cat(head(1, 1), q, []byte("\x01a\xc0")), -1},
		{"reserved label", cat(head(1, 1), q, []byte("\x40"), rr[2:]), -1},
		{"reserved label 0x80", cat(head(1, 1), q, []byte("\x80\x0c"), rr[2:]), -1},
		{"OPT", cat(head(1, 0, 0, 1), q, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00")), -1},
		{"over 64 KiB", make([]byte, 65536), -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := index(tc.p, nil)
			if (err != nil) != (tc.ttls < 0) {
				t.Fatalf("%v", err)
			}
			if err == nil && (len(l.ttls) != tc.ttls || l.question != 3) {
				t.Errorf("got %+v", l)
			}
		})
	}
}

// The counts of a short packet must not make us allocate for what is not there.
func TestIndexBelievesNoCount(t *testing.T) {
	p := []byte("\x00\x00\x80\x00\x00\x01\xff\xff\xff\xff\xff\xff\x00\x00\x01\x00\x01")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := index(p, nil); err == nil {
			t.Fatal("a lie was believed")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d octets were allocated", n)
	}
}

func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		"www.example.org. 60 IN A 192.0.2.1",
		"www.example.org. 60 IN CNAME example.org.",
		"www.example.org. 60 IN SOA ns.example.org. h.example.org. 1 2 3 4 5",
	} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("www.example.org.", dns.TypeA)
		m.Compress = true
		m.Answer = []dns.RR{rr, rr}
		m.Ns = []dns.RR{rr}
		p, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		m.SetEdns0(1232, true)
		if p, err = m.Pack(); err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		l, err := index(p, nil)
		if err != nil {
			return
		}
		if l.question < 1 || headerLen+l.question+4 > len(p) {
			t.Fatalf("the question is at %d of %d octets", l.question, len(p))
		}
		last := headerLen + l.question + 4
		for _, o := range l.ttls {
			if int(o) < last || int(o)+6 > len(p) {
				t.Fatalf("a TTL at %d of %d octets after %d", o, len(p), last)
			}
			last = int(o) + 6
		}
		// Another parser must see what is written there.
		p = append([]byte(nil), p...)
		for i, o := range l.ttls {
			binary.BigEndian.PutUint32(p[o:], uint32(4242+i))
		}
		var m dns.Msg
		if m.Unpack(p) != nil {
			return
		}
		n := 0
		for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for _, rr := range rrs {
				if rr.Header().Ttl != uint32(4242+n) {
					t.Fatalf("RR %d has TTL %d", n, rr.Header().Ttl)
				}
				n++
			}
		}
		if n != len(l.ttls) {
			t.Fatalf("%d RRs, %d TTLs", n, len(l.ttls))
		}
	})
}

// FuzzPrepare passes hostile responses through the whole way into the cache and out.
func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN CNAME www.example.org.", "example.org. 60 IN SOA . . 1 2 3 4 5"} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("www.example.org.", dns.TypeA)
		m.Response = true
		m.Answer, m.Ns, m.Extra = []dns.RR{rr}, []dns.RR{rr}, []dns.RR{rr}
		p, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, false)
	}
	f.Fuzz(func(t *testing.T, p []byte, do bool) {
		var m dns.Msg
		if m.Unpack(p) != nil || len(m.Question) != 1 {
			return
		}
		q := m.Question[0]
		r := Prepare(&m, do, DefaultTerms(), epoch)
		if r.Kind == Uncacheable {
			return
		}
		if r.Life < 0 || r.Life > DefaultMaxTTL {
			t.Fatalf("kept for %v", r.Life)
		}
		key, err := AppendQuestionKey(nil, q, RD)
		if err != nil {
			return
		}
		if !validKey(key) {
			t.Fatalf("key %q", key)
		}
		c, err := New("fuzz", Size{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Store(key, r, Storage{Epoch: 1}, epoch)
		if err != nil || !s.New {
			return
		}
		out, _, ok := c.Lookup(key, nil, Reply{ID: 3}, epoch)
		if !ok {
			t.Fatal("what was stored is not found")
		}
		var back dns.Msg
		if err := back.Unpack(out); err != nil {
			// Our parser and the library's disagree about nothing that the library packed.
			t.Fatalf("%v: %x", err, out)
		}
		for _, rr := range back.Answer {
			if rr.Header().Ttl == 0 {
				t.Fatalf("TTL 0 was kept: %v", rr)
			}
		}
	})
}

func TestKey(t *testing.T) {
	for _, tc := range []struct {
		name string
		ok   bool
	}{
		{"www.example.org.", true},
		{"WWW.example.org.", true},
		{".", true},
		{`a\.b.example.`, true},
		{`\000.example.`, true},
		{"a..b.", false},
		{"", false},
		{string(make([]byte, 300)) + ".", false},
	} {
		key, err := AppendQuestionKey(nil, dns.Question{Name: tc.name, Qtype: 1, Qclass: 1}, RD|DO|CD)
		if ok := err == nil && validKey(key); ok != tc.ok {
			t.Errorf("%q: %v, %x", tc.name, err, key)
		}
	}
	a, _ := AppendQuestionKey(nil, dns.Question{Name: "WwW.Example.", Qtype: 28, Qclass: 1}, DO)
	b := AppendKey(nil, []byte("\x03www\x07exAMPle\x00"), 28, 1, DO)
	if string(a) != string(b) || string(a) != "\x02\x00\x1c\x00\x01\x03www\x07example\x00" {
		t.Errorf("%x and %x", a, b)
	}
	for _, k := range []string{"", "\x00\x00\x01\x00\x01", "\x00\x00\x01\x00\x01\x40", "\x00\x00\x01\x00\x01\x01a", "\x00\x00\x01\x00\x01\x00\x00"} {
		if validKey([]byte(k)) {
			t.Errorf("%x is taken for a key", k)
		}
	}
}

func TestGhost(t *testing.T) {
	var g ghost
	if g.take(1) {
		t.Error("something is remembered from the start")
	}
	const limit = 1000
	hash := func(i int) uint64 { return uint64(i+1) * 0x9E3779B97F4A7C15 }
	for i := range 10 * limit {
		g.add(hash(i), limit)
	}
	if len(g.places) != 1024 {
		t.Fatalf("%d places", len(g.places))
	}
	if !g.take(hash(10*limit-1)) || g.take(hash(10*limit-1)) {
		t.Error("the last one is not remembered once")
	}
	late, early := 0, 0
	for i := range limit / 2 {
		if g.take(hash(10*limit - 2 - i)) {
			late++
		}
		if g.take(hash(i)) {
			early++
		}
	}
	if late < limit/4 || early > 0 {
		t.Errorf("of %d each, %d of the last and %d of the first are remembered", limit/2, late, early)
	}
}
