package forward

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// rich is a reply with everything that a scan looks into.
func rich(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	for _, text := range []string{
		"www.example.org. 60 IN CNAME a.example.org.", "a.example.org. 60 IN A 192.0.2.1", "a.example.org. 60 IN AAAA 2001:db8::1",
		"a.example.org. 60 IN MX 10 mx.example.org.", "a.example.org. 60 IN TXT \"one\" \"two\"", "a.example.org. 60 IN SRV 1 2 3 t.example.net.",
		"a.example.org. 60 IN SOA ns.example.org. h.example.org. 1 2 3 4 5",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	m.Compress, m.AuthenticatedData, m.RecursionAvailable = true, true, true
	return m
}

// Every query must get the same response as a packet as it gets as a message.
func TestExchangeWireAgreesWithExchange(t *testing.T) {
	replies := map[string]handlerFunc{
		"rich": rich,
		"own EDNS": func(r *dns.Msg) *dns.Msg {
			m := rich(r)
			m.SetEdns0(4096, true)
			return m
		},
		"EDE": func(r *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetRcode(r, dns.RcodeNameError)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 15, ExtraText: "blocked"}}
			return m
		},
		"OPT before a record": func(r *dns.Msg) *dns.Msg {
			m := answerA(r)
			m.SetEdns0(1232, false)
			m.Extra = append(m.Extra, m.Answer[0])
			return m
		},
		"BADVERS": func(r *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetReply(r)
			m.SetEdns0(1232, false)
			m.Rcode = dns.RcodeBadVers
			return m
		},
		"no question": func(r *dns.Msg) *dns.Msg {
			m := new(dns.Msg).SetRcode(r, dns.RcodeNotAuth)
			m.Question = nil
			return m
		},
		"Z": func(r *dns.Msg) *dns.Msg {
			m := answerA(r)
			m.Zero = true
			return m
		},
		"cut": cut,
		"knows no OPT": func(r *dns.Msg) *dns.Msg {
			if r.IsEdns0() != nil {
				m := new(dns.Msg).SetRcode(r, dns.RcodeFormatError)
				m.Question = nil
				return m
			}
			return answerA(r)
		},
	}
	queries := map[string]func(*dns.Msg){
		"no EDNS": func(*dns.Msg) {},
		"AD":      func(m *dns.Msg) { m.AuthenticatedData = true },
		"CD":      func(m *dns.Msg) { m.CheckingDisabled, m.RecursionDesired = true, false },
		"EDNS":    func(m *dns.Msg) { m.SetEdns0(512, false) },
		"DO":      func(m *dns.Msg) { m.SetEdns0(4096, true) },
	}
	for rname, reply := range replies {
		s := serve(t, reply, answerA, nil, nil)
		p, _ := poolOf(t, nil, plain(s.addr))
		for qname, change := range queries {
			t.Run(rname+"/"+qname, func(t *testing.T) {
				q := new(dns.Msg).SetQuestion("wWw.Example.org.", dns.TypeA)
				change(q)
				want, err := p.Exchange(t.Context(), Query{Msg: q})
				if err != nil {
					t.Fatal(err)
				}
				// What the writer above would do to the message.
				if opt := want.Msg.IsEdns0(); opt != nil {
					opt.SetVersion(0)
					opt.SetUDPSize(q.IsEdns0().UDPSize())
					opt.SetDo(q.IsEdns0().Do())
				}
				wire, err := q.Pack()
				if err != nil {
					t.Fatal(err)
				}
				before := bytes.Clone(wire)
				got, err := p.ExchangeWire(t.Context(), WireQuery{Wire: wire}, make([]byte, 0, 4096))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(before, wire) {
					t.Error("the query was changed")
				}
				m := new(dns.Msg)
				if err := m.Unpack(got.Wire); err != nil {
					t.Fatal(err)
				}
				m.Compress, want.Msg.Compress = false, false
				if diff := cmp.Diff(want.Msg.String(), m.String()); diff != "" {
					t.Errorf("as a message (-), as a packet (+):\n%s", diff)
				}
			})
		}
	}
}

func TestPlainQuery(t *testing.T) {
	tests := []struct {
		name   string
		change func(*dns.Msg)
		want   bool
	}{
		{"plain", func(*dns.Msg) {}, true},
		{"EDNS", func(m *dns.Msg) { m.SetEdns0(1232, true) }, true},
		{"an option", func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}}
		}, false},
		{"EDNS version 1", func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, false},
		{"two OPT", func(m *dns.Msg) { m.SetEdns0(1232, false); m.SetEdns0(1232, false) }, false},
		{"a response", func(m *dns.Msg) { m.Response = true }, false},
		{"NOTIFY", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, false},
		{"AXFR", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, false},
		{"OPT", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }, false},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, false},
		{"none", func(m *dns.Msg) { m.Question = nil }, false},
		{"an answer", func(m *dns.Msg) { m.Answer = answerA(m).Answer }, false},
		{"another record", func(m *dns.Msg) { m.Extra = answerA(m).Answer }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
			tt.change(m)
			wire, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if _, got := plainQuery(wire); got != tt.want {
				t.Errorf("plain: %t", got)
			}
			for i := range wire {
				if _, ok := plainQuery(wire[:i]); ok {
					t.Errorf("plain after %d octets of %d", i, len(wire))
				}
			}
		})
	}
}

func TestScanRefuses(t *testing.T) {
	header := "\x00\x01\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00"
	question := "\x01a\x00\x00\x01\x00\x01"
	record := "\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
	tests := []struct{ name, wire string }{
		{"pointer to itself", header + question + "\xc0\x13" + record},
		{"pointer forward", header + question + "\xc0\x20" + record},
		{"pointer into the header", header + question + "\xc0\x04" + record},
		{"reserved label type", header + question + "\x80" + record},
		{"record beyond the end", header + question + "\xc0\x0c" + record[:12]},
		{"A of five octets", header + question + "\xc0\x0c" + record[:9] + "\x05\x01\x02\x03\x04\x05"},
		{"CNAME that ends early", header + question + "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x00\x00\x00\x00"},
		{"TXT that ends late", header + question + "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x05a"},
		{"OPT in ANSWER", header + question + "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"},
	}
	if _, ok := scan([]byte(header + question + "\xc0\x0c" + record)); !ok {
		t.Fatal("the good one is refused")
	}
	for _, tt := range tests {
		if _, ok := scan([]byte(tt.wire)); ok {
			t.Errorf("%s: accepted", tt.name)
		}
	}
	name := bytes.Repeat([]byte("\x3f"+string(bytes.Repeat([]byte("x"), 63))), 4) // 256 octets
	if _, ok := skipName(append(append(make([]byte, headerSize), name...), 0), headerSize, headerSize+257); ok {
		t.Error("a name of 257 octets is accepted")
	}
}

// What the library can read and scan accepts is the same message; nothing panics.
func FuzzScan(f *testing.F) {
	q := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	for _, m := range []*dns.Msg{q, rich(q), answerA(q)} {
		m.SetEdns0(1232, true)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		l, ok := scan(wire)
		if !ok {
			return
		}
		if l.end > len(wire) || l.question > l.end || l.opt > l.optEnd || l.optEnd > l.end {
			t.Fatalf("layout %+v of %d octets", l, len(wire))
		}
		m := new(dns.Msg)
		if m.Unpack(wire[:l.end]) == nil && len(m.Answer) != l.answers {
			t.Fatalf("%d answers, library says %d", l.answers, len(m.Answer))
		}
	})
}

// Identical queries under way are one query to the upstream, whoever asks in what form.
func TestIdenticalQueriesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, script{after: 100 * time.Millisecond})
		defer b.Close()
		q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = b.Exchange(t.Context(), Query{Msg: q})
				} else {
					var got WireResponse
					got, err = b.ExchangeWire(t.Context(), WireQuery{Wire: wire}, nil)
					if err == nil && (got.Wire[0] != wire[0] || got.Wire[1] != wire[1]) {
						t.Error("the id is not the client's")
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(b.asked) != 1 {
			t.Errorf("the upstream was asked %d times", len(b.asked))
		}
		// What differs goes alone: letters' case, flags, type, transport.
		other := q.Copy()
		other.Question[0].Name = "Example.org."
		flags := q.Copy()
		flags.CheckingDisabled = true
		b.asked = nil
		for _, m := range []*dns.Msg{q, other, flags} {
			for _, tcp := range []bool{false, true} {
				all.Go(func() { _, _ = b.Exchange(t.Context(), Query{Msg: m, TCP: tcp}) })
			}
		}
		all.Wait()
		if len(b.asked) != 6 {
			t.Errorf("6 different queries were asked %d times", len(b.asked))
		}
	})
}

// A client that goes away takes nobody with it.
func TestFirstOfIdenticalQueriesGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, script{after: 100 * time.Millisecond})
		defer b.Close()
		q := Query{Msg: new(dns.Msg).SetQuestion("example.org.", dns.TypeA)}
		first, leave := context.WithCancel(t.Context())
		third, leaveToo := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := b.Exchange(first, q); !errors.Is(err, context.Canceled) {
				t.Errorf("the first got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := b.Exchange(t.Context(), q); err != nil {
				t.Errorf("the second got %v", err)
			}
		})
		all.Go(func() {
			if _, err := b.Exchange(third, q); !errors.Is(err, context.Canceled) {
				t.Errorf("the third got %v", err)
			}
		})
		synctest.Wait()
		leaveToo()
		synctest.Wait()
		leave()
		all.Wait()
		if len(b.asked) != 2 {
			t.Errorf("asked %d times", len(b.asked))
		}
	})
}

// Each query goes in a case of its own, and the client sees the one it wrote.
func TestMixCase(t *testing.T) {
	const name = "abcdefghijklm.nopqrstuvw-42.example.org."
	var mu sync.Mutex
	seen := map[string]bool{}
	s := serve(t, func(r *dns.Msg) *dns.Msg {
		mu.Lock()
		defer mu.Unlock()
		seen[r.Question[0].Name] = true
		m := answerA(r)
		m.Compress = true
		return m
	}, nil, nil, nil)
	folds := serve(t, func(r *dns.Msg) *dns.Msg {
		r.Question[0].Name = strings.ToLower(r.Question[0].Name)
		return answerA(r)
	}, answerA, nil, nil)
	p, _ := poolOf(t, func(o *Options) { o.MixCase = true }, plain(s.addr))
	for range 10 {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		got, err := p.Exchange(t.Context(), Query{Msg: q})
		if err != nil {
			t.Fatal(err)
		}
		if got.Msg.Question[0].Name != name || got.Msg.Answer[0].Header().Name != name {
			t.Errorf("the client gets %v", got.Msg)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 10 {
		t.Errorf("10 queries in %d cases: %v", len(seen), seen)
	}
	for n := range seen {
		if !strings.EqualFold(n, name) {
			t.Errorf("asked for %s", n)
		}
	}
	tcp, _ := poolOf(t, func(o *Options) { o.MixCase = true }, plain(folds.addr))
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	proto := ""
	got, err := tcp.Exchange(t.Context(), Query{Msg: q, Attempted: func(a Attempt) { proto = a.Proto }})
	if err != nil || proto != "tcp" || len(got.Msg.Answer) != 1 {
		t.Errorf("an upstream that folds case: %v over %s, %v", got.Msg, proto, err)
	}
}

// A reply is judged and made the response without allocating.
func TestPacketsAllocateNothing(t *testing.T) {
	q := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	q.SetEdns0(1232, true)
	query, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := rich(q)
	m.SetEdns0(1232, true)
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, 0, 4096)
	n := testing.AllocsPerRun(100, func() {
		l, ok := plainQuery(query)
		reply := append(memory, packed...)
		g, v := inspect(reply, query, l.question, q.Id)
		if !ok || v != accept {
			t.Fatal("not the reply")
		}
		if _, err := finishWire(query, &l, reply, &g); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
