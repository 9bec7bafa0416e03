package fastpath_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestSlips compares what is sent in the place of responses beyond the rate: by the fast
// path from what it learnt, by the course that queries take to the upstreams, and by the
// chain.
func TestSlips(t *testing.T) {
	u := startUpstream(t)
	fast, slow := freePort(t), freePort(t)
	var text string
	for _, l := range []struct{ port, off string }{{fast, ""}, {slow, "fastpath off"}} {
		text += fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\nrrl {\nresponses 1\nburst 0s\nslip 1\nprefix 32 64\nloopback\nexempt 127.9.9.9\n}\ncache {\nserve_stale\n}\nforward . %s\n}\n", l.port, l.off, u.addr)
	}
	run(t, text)
	if s := listenerOf(t, fast); !s.On || !s.Blocks[0].Relayed {
		t.Fatalf("%+v", s)
	}
	var packets [][]byte
	add := func(name string, qtype uint16, change func(*dns.Msg)) {
		m := new(dns.Msg).SetQuestion(name, qtype)
		if change != nil {
			change(m)
		}
		m.Id = uint16(len(packets))
		p, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	edns := func(size uint16, do bool) func(*dns.Msg) { return func(m *dns.Msg) { m.SetEdns0(size, do) } }
	for _, name := range []string{"slip.example.test.", "nx.slip.test.", "alias.slip.test."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeNS} {
			add(name, qtype, nil)
			add(name, qtype, edns(1232, false))
			add(name, qtype, edns(512, true))
			add(name, qtype, edns(4096, true))
			add(name, qtype, func(m *dns.Msg) { m.CheckingDisabled = true })
			add(name, qtype, func(m *dns.Msg) { m.AuthenticatedData = true })
			add(name, qtype, func(m *dns.Msg) { m.RecursionDesired = false })
			add(strings.ToUpper(name[:3])+name[3:], qtype, edns(1232, false))
		}
	}
	free := station{dial(t, "127.9.9.9", "127.0.0.1:"+fast), dial(t, "127.9.9.9", "127.0.0.1:"+slow)}
	spent := station{dial(t, "127.1.0.1", "127.0.0.1:"+fast), dial(t, "127.1.0.1", "127.0.0.1:"+slow)}
	hits := listenerOf(t, fast).Hits
	for round := range 4 {
		// An exempt client brings what the fast path learns from.
		whole := exchange(t, free.fast, packets)
		exchange(t, free.slow, packets)
		f, s := drainAndAsk(t, spent, packets)
		slips := 0
		for i := range packets {
			if f[i] == nil || s[i] == nil || whole[i] == nil {
				t.Fatalf("round %d: no reply to %x: %x and %x", round, packets[i], f[i], s[i])
			}
			if whole[i][2]&2 != 0 && len(whole[i]) <= len(packets[i]) {
				t.Fatalf("round %d: the exempt client got %x for %x", round, whole[i], packets[i])
			}
			// A token may have come for one and not for the other.
			if f[i][2]&2 == 0 || s[i][2]&2 == 0 {
				continue
			}
			slips++
			if !bytes.Equal(f[i], s[i]) {
				t.Errorf("round %d, to %x\nwith    %x\nwithout %x", round, packets[i], f[i], s[i])
			}
			m := new(dns.Msg)
			if err := m.Unpack(f[i]); err != nil || len(m.Answer)+len(m.Ns) > 0 || len(f[i]) > len(packets[i]) {
				t.Errorf("round %d: %d octets for %d, %v %v", round, len(f[i]), len(packets[i]), m, err)
			}
		}
		if slips < len(packets)-10 {
			t.Errorf("round %d: only %d of %d slip", round, slips, len(packets))
		}
	}
	if n := listenerOf(t, fast).Hits - hits; n < uint64(len(packets)) {
		t.Errorf("%d hits", n)
	}
}

// drainAndAsk asks both of a station, after what is still to come from before.
func drainAndAsk(t *testing.T, s station, packets [][]byte) (fast, slow [][]byte) {
	t.Helper()
	buf := make([]byte, 65536)
	s.fast.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for _, err := s.fast.Read(buf); err == nil; _, err = s.fast.Read(buf) {
	}
	s.slow.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for _, err := s.slow.Read(buf); err == nil; _, err = s.slow.Read(buf) {
	}
	return exchange(t, s.fast, packets), exchange(t, s.slow, packets)
}

// TestLimitIsOne mixes queries that the fast path repeats, that take a course, and that
// only the chain answers: together they get one rate.
func TestLimitIsOne(t *testing.T) {
	u := startUpstream(t)
	port := freePort(t)
	run(t, fmt.Sprintf(".:%s {\nbind 127.0.0.1\nrrl {\nresponses 60\nslip 0\nburst 1s\nloopback\n}\ncache\nforward . %s\n}\n", port, u.addr))
	if s := listenerOf(t, port); !s.On || !s.Blocks[0].Relayed {
		t.Fatalf("%+v", s)
	}
	prime := dial(t, "127.2.0.1", "127.0.0.1:"+port)
	hit := func(id int) []byte {
		m := new(dns.Msg).SetQuestion("a.example.test.", dns.TypeA)
		m.Id = uint16(id)
		p, _ := m.Pack()
		return p
	}
	for range 5 {
		exchange(t, prime, [][]byte{hit(0)})
	}
	c := dial(t, "127.1.0.1", "127.0.0.1:"+port)
	var packets [][]byte
	for i := range 300 {
		m := new(dns.Msg)
		switch i % 3 {
		case 0:
			packets = append(packets, hit(i))
			continue
		case 1: // never asked before: a course
			m.SetQuestion(fmt.Sprintf("n%d.example.test.", i), dns.TypeA)
		case 2: // not plain
			m.SetQuestion("a.example.test.", dns.TypeA).SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
		}
		m.Id = uint16(i)
		p, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	before, begin := listenerOf(t, port), time.Now()
	got := [3]int{}
	for i, r := range exchange(t, c, packets) {
		if r != nil {
			got[i%3]++
		}
	}
	after := listenerOf(t, port)
	all := got[0] + got[1] + got[2]
	if most := 60 + int(60*time.Since(begin).Seconds()) + 1; all < 60 || all > most {
		t.Errorf("%v passed, want 60 to %d", got, most)
	}
	if after.Hits-before.Hits < 90 || after.Relayed-before.Relayed < 90 || after.Misses-before.Misses < 90 {
		t.Errorf("before %+v, after %+v: not what was to be mixed", before, after)
	}
}
