package fastpath

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

// learnt returns an entry for the query with a reply of one A.
func learnt(t testing.TB, name string, edit func(*entry)) (*entry, *query, []byte) {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	p := pack(t, m)
	q := &query{}
	if !q.parse(p) {
		t.Fatal("not plain")
	}
	r := new(dns.Msg).SetReply(m)
	rr, err := dns.NewRR(name + " 300 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	r.Answer = []dns.RR{rr}
	e := &entry{packet: pack(t, r), until: int64(time.Hour)}
	e.key = appendKey(nil, 0, 0, q)
	ttls, spell, ok := layout(e.packet, e.key[keyPrefix:], nil, nil)
	if !ok {
		t.Fatal("no layout")
	}
	e.ttls, e.spell, e.echo = ttls, spell, true
	if edit != nil {
		edit(e)
	}
	return e, q, p
}

func TestReply(t *testing.T) {
	e, _, _ := learnt(t, "www.example.test.", nil)
	asked := pack(t, &dns.Msg{MsgHdr: dns.MsgHdr{Id: 4242, RecursionDesired: true}, Question: []dns.Question{{Name: "wWw.ExamplE.tesT.", Qtype: 1, Qclass: 1}}})
	var q query
	q.parse(asked)
	appendKey(nil, 0, 0, &q)
	var buf [maxReply]byte
	for _, tc := range []struct {
		age  time.Duration
		want uint32
	}{{0, 300}, {999 * time.Millisecond, 300}, {time.Second, 299}, {299 * time.Second, 1}, {400 * time.Second, 0}} {
		n := e.reply(buf[:], asked, &q, int64(tc.age))
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		if m.Id != 4242 || m.Question[0].Name != "wWw.ExamplE.tesT." || m.Answer[0].Header().Name != "wWw.ExamplE.tesT." || m.Answer[0].Header().Ttl != tc.want {
			t.Errorf("after %s: %s", tc.age, m)
		}
	}
}

func TestWhatIsNotRepeated(t *testing.T) {
	var epoch answer.Epoch
	tb := NewTable()
	e, q, _ := learnt(t, "www.example.test.", func(e *entry) { e.until, e.epoch, e.seen = 100, &epoch, 0 })
	tb.put(e, 0)
	if tb.get(e.key, q, 99) != e {
		t.Error("not found")
	}
	if tb.get(e.key, q, 100) != nil {
		t.Error("found past its time")
	}
	mixed := *q
	mixed.flags |= flagMixed
	if tb.get(e.key, &mixed, 0) == nil {
		t.Error("another spelling is not answered")
	}
	e.echo = false
	if tb.get(e.key, &mixed, 0) != nil {
		t.Error("another spelling is answered, though its producer did not say so")
	}
	epoch.Add(1)
	if tb.get(e.key, q, 0) != nil {
		t.Error("found past its epoch")
	}
	other := append([]byte(nil), e.key...)
	other[0]++
	if tb.get(other, q, 0) != nil {
		t.Error("found under another key")
	}
}

// TestFlood fills the table many times over with names that nobody asks for again.
func TestFlood(t *testing.T) {
	tb := NewTable()
	hot := map[string]*query{}
	for i := range 1000 {
		e, q, _ := learnt(t, fmt.Sprintf("hot%d.example.test.", i), nil)
		tb.put(e, 0)
		hot[string(e.key)] = q
	}
	cold, _, _ := learnt(t, "cold00000000.example.test.", nil)
	for i := range 2 * maxEntries {
		e := &entry{key: append([]byte(nil), cold.key...), packet: cold.packet, until: cold.until}
		copy(e.key[keyPrefix+5:], fmt.Sprintf("%08d", i))
		tb.put(e, 0)
		if i%256 == 0 {
			for k, q := range hot {
				tb.get([]byte(k), q, 0)
			}
		}
	}
	lost := 0
	for k, q := range hot {
		if tb.get([]byte(k), q, 0) == nil {
			lost++
		}
	}
	s := tb.Stats()
	if lost > 0 || s.Entries > maxEntries || s.Bytes > maxBytes {
		t.Errorf("%d of 1000 hot names lost; %+v", lost, s)
	}
	var bytes int64
	for i := range tb.buckets {
		for j := range tb.buckets[i].ways {
			if e := tb.buckets[i].ways[j].Load(); e != nil {
				bytes += e.cost()
			}
		}
	}
	if bytes != s.Bytes {
		t.Errorf("%d bytes counted, %d there", s.Bytes, bytes)
	}
}

func TestBytesAreBounded(t *testing.T) {
	tb := NewTable()
	for i := range maxEntries {
		key := binary.BigEndian.AppendUint64(make([]byte, keyPrefix), uint64(i)+1)
		tb.put(&entry{key: key, packet: make([]byte, maxReply), until: 1}, 0)
	}
	if s := tb.Stats(); s.Bytes > maxBytes || s.Refused == 0 {
		t.Errorf("%+v", s)
	}
}

// TestDraws: which reply is given is random, each is given a bounded number of times,
// and a change of the epoch ends them all.
func TestDraws(t *testing.T) {
	var epoch answer.Epoch
	tb := NewTable()
	var chain int
	served := map[*entry]int{}
	_, q, _ := learnt(t, "web.service.internal.", nil)
	const queries = 200_000
	ask := func() *entry {
		key := appendKey(nil, 0, 0, q)
		if e := tb.get(key, q, 0); e != nil {
			return e
		}
		chain++
		e, _, _ := learnt(t, "web.service.internal.", func(e *entry) {
			e.epoch, e.seen, e.draws = &epoch, epoch.Load(), new(draws)
			e.draws.add(e)
		})
		tb.put(e, 0)
		return e
	}
	for range queries {
		served[ask()]++
	}
	for _, n := range served {
		if n > maxUses+1 {
			t.Fatalf("a draw was given %d times", n)
		}
	}
	if chain > queries/maxUses*2 || chain < queries/(maxUses+1) {
		t.Errorf("%d of %d queries went to the chain", chain, queries)
	}
	before := chain
	epoch.Add(1)
	if ask(); chain != before+1 {
		t.Error("a draw outlived its epoch")
	}
}

func TestNoAllocation(t *testing.T) {
	tb := NewTable()
	e, _, p := learnt(t, "www.example.test.", nil)
	tb.put(e, 0)
	var q query
	var key [maxKey]byte
	var out [maxReply]byte
	if n := testing.AllocsPerRun(1000, func() {
		if !q.parse(p) {
			t.Fatal("not plain")
		}
		e := tb.get(appendKey(key[:0], 0, 0, &q), &q, int64(5*time.Second))
		if e.reply(out[:], p, &q, int64(5*time.Second)) == 0 {
			t.Fatal("no reply")
		}
		e.hits.Add(1)
	}); n != 0 {
		t.Errorf("%v allocations a hit", n)
	}
}

func BenchmarkHit(b *testing.B) {
	tb := NewTable()
	e, _, p := learnt(b, "www.example.test.", nil)
	tb.put(e, 0)
	var q query
	var key [maxKey]byte
	var out [maxReply]byte
	for b.Loop() {
		q.parse(p)
		e := tb.get(appendKey(key[:0], 0, 0, &q), &q, int64(5*time.Second))
		e.reply(out[:], p, &q, int64(5*time.Second))
		e.hits.Add(1)
	}
}
