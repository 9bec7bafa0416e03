package cache

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// held is what a naive cache keeps of a response.
type held struct {
	address uint32
	ttl     time.Duration
	stored  time.Time
	kind    Kind
}

// TestModel compares the cache with a map under a virtual clock: stores of answers,
// denials and failures, lookups with and without a stale window, flushes, and fetches
// that a flush overtakes. Nothing is evicted, so that both must agree exactly.
func TestModel(t *testing.T) {
	names := []string{"a.example.", "b.example.", "a.b.example.", "ab.example.", "example.", "A.Example.", "x."}
	rapid.Check(t, func(t *rapid.T) {
		c, err := New("model", Size{})
		if err != nil {
			t.Fatal(err)
		}
		model := map[string]held{}
		now := epoch
		maxStale := time.Duration(rapid.IntRange(0, 3).Draw(t, "stale")) * 30 * time.Second
		counter := uint32(0)
		fetch := uint64(0) // the epoch of an open fetch

		question := func(t *rapid.T) (string, dns.Question, Flags) {
			q := dns.Question{Name: rapid.SampledFrom(names).Draw(t, "name"), Qtype: rapid.SampledFrom([]uint16{dns.TypeA, dns.TypeAAAA}).Draw(t, "type"), Qclass: dns.ClassINET}
			f := Flags(rapid.Uint8Max(byte(RD|DO|CD)).Draw(t, "flags"))
			return fmt.Sprintf("%s|%d|%d", strings.ToLower(q.Name), q.Qtype, f), q, f
		}
		usable := func(h held, window time.Duration) bool {
			age := now.Sub(h.stored)
			return age < h.ttl || (h.kind != Failure && age-h.ttl < window)
		}
		drop := func(match func(name string) bool) int {
			n := 0
			for id := range model {
				if match(id[:strings.Index(id, "|")]) {
					delete(model, id)
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				id, q, f := question(t)
				ttl := rapid.Uint32Range(0, 100).Draw(t, "ttl")
				counter++
				m := &dns.Msg{Question: []dns.Question{q}}
				m.Response = true
				kind := rapid.SampledFrom([]Kind{Success, Nxdomain, Failure}).Draw(t, "kind")
				life := ttl
				switch kind {
				case Success:
					h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
					if q.Qtype == dns.TypeA {
						a := make([]byte, 4)
						binary.BigEndian.PutUint32(a, counter)
						m.Answer = []dns.RR{&dns.A{Hdr: h, A: a}}
					} else {
						a := make([]byte, 16)
						a[0] = 0x20
						binary.BigEndian.PutUint32(a[12:], counter)
						m.Answer = []dns.RR{&dns.AAAA{Hdr: h, AAAA: a}}
					}
				case Nxdomain:
					m.Rcode = dns.RcodeNameError
					m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 200}, Ns: ".", Mbox: ".", Minttl: ttl}}
				case Failure:
					m.Rcode = dns.RcodeServerFailure
					life = 5
				}
				if kind != Failure && ttl > 0 {
					life = max(ttl, 5)
				}
				key, err := AppendQuestionKey(nil, q, f)
				if err != nil {
					t.Fatal(err)
				}
				late := fetch != 0 && rapid.Bool().Draw(t, "late")
				seen := c.Epoch().Load()
				if late {
					seen = fetch
				}
				s, err := c.Store(key, Prepare(m, f&DO != 0, DefaultTerms(), now), Storage{Epoch: seen, MaxStale: maxStale}, now)
				if err != nil {
					t.Fatal(err)
				}
				want := life > 0 && seen == c.Epoch().Load()
				if old, ok := model[id]; want && ok && kind == Failure && old.kind != Failure && usable(old, maxStale) {
					want = false
				}
				if s.New != want {
					t.Fatalf("stored %v, want %v", s.New, want)
				}
				if want {
					model[id] = held{counter, time.Duration(life) * time.Second, now, kind}
				}
			},
			"lookup": func(t *rapid.T) {
				id, q, f := question(t)
				key, err := AppendQuestionKey(nil, q, f)
				if err != nil {
					t.Fatal(err)
				}
				window := rapid.SampledFrom([]time.Duration{0, maxStale}).Draw(t, "window")
				e := c.Find(key, now, window)
				h, ok := model[id]
				ok = ok && usable(h, window)
				if (e != nil) != ok {
					t.Fatalf("%s: found %v, want %v", id, e != nil, ok)
				}
				if e == nil {
					return
				}
				var m dns.Msg
				p := e.AppendReply(nil, Reply{ID: 9, StaleTTL: 7}, now)
				if err := m.Unpack(p); err != nil {
					t.Fatal(err)
				}
				if e.Kind() != h.kind {
					t.Fatalf("%s is %s, want %s", id, e.Kind(), h.kind)
				}
				if h.kind == Success && binary.BigEndian.Uint32(p[len(p)-4:]) != h.address {
					t.Fatalf("%s: the wrong answer", id)
				}
				for _, rr := range append(m.Answer, m.Ns...) {
					want := uint32(7)
					if age := now.Sub(h.stored); age < h.ttl {
						want = uint32((h.ttl - age.Truncate(time.Second)) / time.Second)
					}
					if rr.Header().Ttl != want {
						t.Fatalf("%s: TTL %d, want %d", id, rr.Header().Ttl, want)
					}
				}
			},
			"elapse": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40000).Draw(t, "ms")) * time.Millisecond)
			},
			"fetch": func(*rapid.T) { fetch = c.Epoch().Load() },
			"flush": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "name")
				low := strings.ToLower(name)
				var got, want int
				switch rapid.IntRange(0, 2).Draw(t, "how") {
				case 0:
					got, want = c.Flush(), drop(func(string) bool { return true })
				case 1:
					got, _ = c.FlushName(name)
					want = drop(func(n string) bool { return n == low })
				case 2:
					got, _ = c.FlushSuffix(name)
					want = drop(func(n string) bool { return n == low || strings.HasSuffix(n, "."+low) })
				}
				if got != want {
					t.Fatalf("flushed %d, want %d", got, want)
				}
			},
			"": func(t *rapid.T) {
				if err := c.check(); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}
