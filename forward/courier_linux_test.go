package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// told is an outcome as the test keeps it.
type told struct {
	token uint32
	bare  []byte // nil where it is not bare
	begun *Begun
}

// round is a courier with its pool, driven by the test's goroutine.
type round struct {
	*Courier
	t    *testing.T
	pool *Pool
	told []told
}

func newRound(t *testing.T, change func(*Options), to ...netip.AddrPort) *round {
	t.Helper()
	o := Default()
	o.ProbeInterval = time.Hour
	for _, a := range to {
		o.Sources = append(o.Sources, Source{Endpoint: Endpoint{Addr: a}})
	}
	o.Policy = Sequential
	if change != nil {
		change(&o)
	}
	pool, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCourier()
	if err != nil {
		t.Fatal(err)
	}
	r := &round{Courier: c, t: t, pool: pool}
	t.Cleanup(func() {
		c.Close(r.tell)
		if n := c.Flying(); n != 0 {
			t.Errorf("%d errands fly on", n)
		}
		_ = pool.Close()
	})
	return r
}

func (r *round) tell(o *Outcome) {
	x := told{token: o.Token}
	if p, ok := o.Bare(); ok {
		x.bare = slices.Clone(p)
	}
	x.begun = o.Begun()
	r.told = append(r.told, x)
}

func wireQuestion(t *testing.T, name string, qtype uint16) []byte {
	t.Helper()
	p, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p[headerSize:]
}

func (r *round) begin(name string, token uint32) bool {
	r.t.Helper()
	return r.Begin(Errand{Pool: r.pool, Question: wireQuestion(r.t, name, dns.TypeA), RD: true, Token: token}, time.Now())
}

// until drives the courier until it has told n outcomes.
func (r *round) until(n int) {
	r.t.Helper()
	r.Send(r.tell)
	for end := time.Now().Add(5 * time.Second); len(r.told) < n; {
		if time.Now().After(end) {
			r.t.Fatalf("%d outcomes of %d", len(r.told), n)
		}
		fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 10)
		r.Receive(time.Now(), r.tell)
		r.Expire(time.Now(), r.tell)
	}
}

func TestCourierBringsReplies(t *testing.T) {
	up := serve(t, answerA, answerA, nil, nil)
	r := newRound(t, nil, up.addr)
	for i := range uint32(20) {
		if !r.begin(string(rune('a'+i))+".example.", i) {
			t.Fatalf("errand %d is refused", i)
		}
	}
	r.until(20)
	seen := map[uint32]bool{}
	for _, o := range r.told {
		var m dns.Msg
		if o.bare == nil || m.Unpack(o.bare) != nil || m.IsEdns0() != nil || len(m.Answer) != 1 {
			t.Fatalf("outcome %d: %x", o.token, o.bare)
		}
		if want := string(rune('a'+o.token)) + ".example."; m.Question[0].Name != want || seen[o.token] {
			t.Errorf("outcome %d is of %s", o.token, m.Question[0].Name)
		}
		seen[o.token] = true
	}
	if s := r.pool.Upstreams()[0]; s.State != Up {
		t.Errorf("%+v", s)
	}
}

// What is no good first reply is no bare one, and the pool goes on from it without asking
// that upstream again.
func TestCourierHandsBack(t *testing.T) {
	servfail := func(r *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(r, dns.RcodeServerFailure) }
	upper := func(r *dns.Msg) *dns.Msg {
		m := answerA(r)
		m.Question[0].Name = strings.ToUpper(m.Question[0].Name)
		return m
	}
	withEDE := func(r *dns.Msg) *dns.Msg {
		m := answerA(r)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3}}
		return m
	}
	for name, c := range map[string]struct {
		first  handlerFunc
		tcp    handlerFunc
		asked  int32 // the first upstream, over UDP and TCP
		second int32
		rcode  int
	}{
		"SERVFAIL":   {servfail, nil, 1, 1, dns.RcodeSuccess},
		"other case": {upper, answerA, 2, 0, dns.RcodeSuccess},
		"cut":        {cut, answerA, 2, 0, dns.RcodeSuccess},
		"options":    {withEDE, nil, 1, 0, dns.RcodeSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			var first, second atomic.Int32
			counted := func(n *atomic.Int32, f handlerFunc) handlerFunc {
				if f == nil {
					return nil
				}
				return func(r *dns.Msg) *dns.Msg {
					if r.Question[0].Name == "www.example." { // no probe
						n.Add(1)
					}
					return f(r)
				}
			}
			a := serve(t, counted(&first, c.first), counted(&first, c.tcp), nil, nil)
			b := serve(t, counted(&second, answerA), nil, nil, nil)
			r := newRound(t, nil, a.addr, b.addr)
			if !r.begin("www.example.", 7) {
				t.Fatal("refused")
			}
			r.until(1)
			o := r.told[0]
			if o.bare != nil || o.begun == nil || o.token != 7 {
				t.Fatalf("%+v", o)
			}
			q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
			q.AuthenticatedData = true
			resp, err := r.pool.Exchange(t.Context(), Query{Msg: q, Begun: o.begun})
			if err != nil || resp.Msg.Rcode != c.rcode || len(resp.Msg.Answer) != 1 || resp.Msg.Id != q.Id {
				t.Fatalf("%v %v", resp.Msg, err)
			}
			if first.Load() != c.asked || second.Load() != c.second {
				t.Errorf("asked %d and %d times, want %d and %d", first.Load(), second.Load(), c.asked, c.second)
			}
		})
	}
}

// A packet with another id, question or form is ignored; the right one after it is taken
// (CVE-2023-28452).
func TestCourierWaitsOn(t *testing.T) {
	to := rawUDP(t, func(q []byte) [][]byte {
		m := new(dns.Msg)
		_ = m.Unpack(q)
		good, _ := answerA(m).Pack()
		wrongID := slices.Clone(good)
		wrongID[0] ^= 0xFF
		other := answerA(new(dns.Msg).SetQuestion("evil.example.", dns.TypeA))
		other.Id = m.Id
		wrongName, _ := other.Pack()
		noReply := slices.Clone(q)
		return [][]byte{wrongID, wrongName, noReply, good[:5], nil, good}
	})
	r := newRound(t, nil, to)
	if !r.begin("www.example.", 1) {
		t.Fatal("refused")
	}
	r.until(1)
	if r.told[0].bare == nil {
		t.Error("the right reply was not taken")
	}
}

// A flood of wrong packets ends the socket, and nothing that it may have forged is taken.
func TestCourierUnderAttack(t *testing.T) {
	to := rawUDP(t, func(q []byte) [][]byte {
		var all [][]byte
		for i := range maxForeign + 10 {
			p := slices.Clone(q)
			binary.BigEndian.PutUint16(p, binary.BigEndian.Uint16(q)+1+uint16(i))
			p[2] |= 0x80
			all = append(all, p)
		}
		return all
	})
	r := newRound(t, nil, to)
	if !r.begin("www.example.", 1) {
		t.Fatal("refused")
	}
	r.until(1)
	if o := r.told[0]; o.bare != nil || o.begun == nil || !errors.Is(o.begun.err, errDoubtful) {
		t.Errorf("%+v", o)
	}
}

func TestCourierGivesUp(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		to := rawUDP(t, func([]byte) [][]byte { return nil })
		r := newRound(t, func(o *Options) { o.ReadTimeout = 50 * time.Millisecond }, to)
		if !r.begin("www.example.", 1) {
			t.Fatal("refused")
		}
		r.until(1)
		o := r.told[0]
		if o.bare != nil {
			t.Errorf("%+v", o)
		}
		if s := r.pool.Upstreams()[0]; s.State == Up {
			t.Error("an upstream that is silent counts as up")
		}
		if r.begin("www.example.", 2) {
			t.Error("an upstream that is not up is asked")
		}
		// The time that was lost is a part of the query's.
		q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		began := o.begun.at
		if _, err := r.pool.Exchange(t.Context(), Query{Msg: q, Begun: o.begun}); !isTimeout(err) {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d < 90*time.Millisecond || d > time.Second {
			t.Errorf("two attempts of 50 ms took %s", d)
		}
	})
	t.Run("closed port", func(t *testing.T) {
		pc, err := net.ListenPacket("udp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		to := pc.LocalAddr().(*net.UDPAddr).AddrPort()
		pc.Close()
		r := newRound(t, nil, to)
		if !r.begin("a.example.", 1) || !r.begin("b.example.", 2) {
			t.Fatal("refused")
		}
		r.until(2) // at once, though the read timeout is 2 s
		if s := r.pool.Upstreams()[0]; s.State == Up {
			t.Error("an upstream that refuses counts as up")
		}
	})
}

// Identical queries are one: whoever goes by the pool waits for the courier's, and the
// courier leaves to the pool what is under way there.
func TestCourierSharesFlights(t *testing.T) {
	var asked atomic.Int32
	hold := make(chan struct{})
	up := serve(t, func(r *dns.Msg) *dns.Msg { asked.Add(1); <-hold; return answerA(r) }, nil, nil, nil)
	r := newRound(t, nil, up.addr)
	if !r.begin("www.example.", 1) {
		t.Fatal("refused")
	}
	if r.begin("www.example.", 2) {
		t.Error("an identical query flies twice")
	}
	if !r.begin("WWW.example.", 3) {
		t.Error("another spelling is another query")
	}
	r.Send(r.tell)
	q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	q.AuthenticatedData = true
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			resp, err := r.pool.Exchange(context.Background(), Query{Msg: q})
			if err != nil || len(resp.Msg.Answer) != 1 {
				t.Errorf("%v", err)
			}
		})
	}
	for {
		s := &r.pool.flights.shards
		waiting := 0
		for i := range s {
			s[i].mu.Lock()
			for _, f := range s[i].all {
				waiting += len(f.passengers)
			}
			s[i].mu.Unlock()
		}
		if waiting == 5 {
			break
		}
	}
	close(hold)
	r.until(2)
	wg.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// Queries that fly when the courier closes are handed back, and those who wait for them
// ask for themselves.
func TestCourierCloses(t *testing.T) {
	to := rawUDP(t, func([]byte) [][]byte { return nil })
	r := newRound(t, nil, to)
	for i := range uint32(300) { // more than one socket takes
		if !r.Begin(Errand{Pool: r.pool, Question: wireQuestion(t, string(rune('a'+i%26))+string(rune('a'+i/26))+".example.", dns.TypeA), Token: i}, time.Now()) {
			t.Fatalf("errand %d is refused", i)
		}
	}
	r.Send(r.tell)
	r.Close(r.tell)
	if len(r.told) != 300 || r.Flying() != 0 {
		t.Errorf("%d handed back, %d fly", len(r.told), r.Flying())
	}
	c, err := NewCourier()
	if err != nil {
		t.Fatal(err)
	}
	r.Courier = c
}

// A source port serves a bounded number of queries, and ids do not repeat in an order.
func TestCourierPorts(t *testing.T) {
	var mu sync.Mutex
	ports := map[uint16]int{}
	ids := map[uint16]int{}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			mu.Lock()
			ports[from.Port()]++
			ids[binary.BigEndian.Uint16(buf)]++
			mu.Unlock()
			m := new(dns.Msg)
			_ = m.Unpack(buf[:n])
			p, _ := answerA(m).Pack()
			_, _ = pc.WriteToUDPAddrPort(p, from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	r := newRound(t, nil, pc.LocalAddr().(*net.UDPAddr).AddrPort())
	const queries = 6000
	for i := range uint32(queries) {
		if !r.begin(strconv.Itoa(int(i%30))+".example.", i) {
			t.Fatalf("errand %d is refused", i)
		}
		if i%30 == 29 {
			r.until(int(i) + 1)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for p, n := range ports {
		if n > udpUses {
			t.Errorf("port %d served %d queries", p, n)
		}
	}
	if len(ports) < queries/udpUses {
		t.Errorf("%d ports", len(ports))
	}
	// Of 6,000 draws from 65,536 some 5,733 are different.
	if len(ids) < 5600 || len(ids) > 5860 {
		t.Errorf("%d different ids of %d", len(ids), queries)
	}
}

// TestCourierAllocatesNothing per query, once its memory is there.
func TestCourierAllocatesNothing(t *testing.T) {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // which must not allocate either
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			buf[3] = 3 // NXDOMAIN, OPT and all
			_, _ = pc.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	r := newRound(t, nil, pc.LocalAddr().(*net.UDPAddr).AddrPort())
	q := Errand{Pool: r.pool, Question: wireQuestion(t, "www.example.", dns.TypeA), RD: true}
	fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
	outcomes := 0
	tell := func(o *Outcome) {
		if _, ok := o.Bare(); ok {
			outcomes++
		}
	}
	one := func() {
		want := outcomes + 1
		if !r.Begin(q, time.Now()) {
			t.Fatal("refused")
		}
		r.Send(tell)
		for outcomes < want {
			_, _ = unix.Poll(fds, 10)
			r.Receive(time.Now(), tell)
		}
	}
	for range 50 {
		one()
	}
	if n := testing.AllocsPerRun(500, one); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
