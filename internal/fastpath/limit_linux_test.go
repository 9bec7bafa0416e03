package fastpath

import (
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/ratelimit"
)

// TestLimitedBatch answers batches from two prefixes, one of them beyond its rate, without
// an allocation.
func TestLimitedBatch(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
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
	var counts ratelimit.Counts
	settings := ratelimit.Default()
	settings.Rates[ratelimit.Answer], settings.Loopback = 10, true
	m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	p := pack(t, m)
	rr, _ := dns.NewRR("a.test. 60 IN A 192.0.2.1")
	m.Response, m.Answer = true, []dns.RR{rr}
	var q query
	q.parse(p)
	e := &entry{packet: pack(t, m), until: 1 << 62}
	e.limit = newLimit(answer.Limit{By: ratelimit.New(settings, ratelimit.NewTable(), &counts), Class: ratelimit.Answer}, e.packet)
	if free := newLimit(answer.Limit{}, e.packet); free != nil {
		t.Error("limited by nobody")
	}
	b := newBatch(newRing(64, 1<<12))
	for i := range batchSize {
		copy(b.inBuf[i][:], p)
		b.in[i].n = uint32(len(p))
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.peers[i].raw))
		v4.Family, v4.Addr = unix.AF_INET, to.Addr().As4()
		v4.Port = to.Port()>>8 | to.Port()<<8
		b.in[i].Namelen = unix.SizeofSockaddrInet4
	}
	e.key = appendKey(nil, 0, g.class(s, &b.peers[0]), &q)
	g.Table.put(e, 0)

	b.answer(s, batchSize)
	got := map[int]int{} // replies by their length
	buf := make([]byte, 1500)
	for range 10 + 27 {
		pc.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := pc.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		got[n]++
	}
	if got[len(e.packet)] != 10 || got[len(p)] != 27 {
		t.Errorf("replies by length: %v; want 10 of %d and 27 of %d", got, len(e.packet), len(p))
	}
	if n := counts.Of(ratelimit.Answer, ratelimit.Dropped); n != 27 {
		t.Errorf("%d dropped, want 27", n)
	}
	if h := g.Counts().Hits; h != batchSize {
		t.Errorf("%d hits, want %d: what is dropped was answered by nobody else", h, batchSize)
	}
	if n := testing.AllocsPerRun(100, func() { b.answer(s, batchSize) }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}
