package fastpath

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/resolverd/resolverd/internal/answer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chain is a Handler that answers everything with one address.
type chain struct {
	asked, told atomic.Int64
	share       answer.Shareable
	address     string
	seen        atomic.Uint64
	held        atomic.Bool // replies wait for hold
	hold        chan struct{}
}

func (c *chain) serve(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) Sink {
	c.asked.Add(1)
	if c.held.Load() {
		<-c.hold
	}
	m := new(dns.Msg).SetReply(r)
	rr, _ := dns.NewRR(r.Question[0].Name + " 300 IN A " + c.address)
	m.Answer = []dns.RR{rr}
	s := c.share
	s.Seen = c.seen.Load()
	s.Until = time.Now().Add(time.Hour)
	answer.FromContext(ctx).Share(s)
	_ = w.WriteMsg(m)
	return func(n uint32, _ time.Duration) { c.told.Add(int64(n)) }
}

// listen returns a free address with a socket on it, as the server's own.
func listen(t *testing.T) (netip.AddrPort, *net.UDPConn) {
	t.Helper()
	lc := net.ListenConfig{Control: reusePort}
	pc, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), pc.(*net.UDPConn)
}

func adopt(t *testing.T, e *Engine, addr netip.AddrPort, c *chain) *Generation {
	t.Helper()
	g, err := e.Adopt(Config{Addr: addr, Local: net.UDPAddrFromAddrPort(addr), Table: NewTable(), Serve: c.serve})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ask returns the address in the answer, or "".
func ask(t *testing.T, addr netip.AddrPort, name string) string {
	t.Helper()
	c := &dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), addr.String())
	if err != nil || len(r.Answer) != 1 {
		return ""
	}
	return r.Answer[0].(*dns.A).A.String()
}

func TestLifecycle(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	e := New(nil)
	addr, own := listen(t)
	first, second := &chain{address: "192.0.2.1"}, &chain{address: "192.0.2.2"}
	g1 := adopt(t, e, addr, first)
	for range 10 {
		if got := ask(t, addr, "a.test."); got != "192.0.2.1" {
			t.Fatalf("got %q", got)
		}
	}
	if n := first.asked.Load(); n > 2 {
		t.Errorf("the chain was asked %d times", n)
	}
	g2 := adopt(t, e, addr, second)
	if got := ask(t, addr, "a.test."); got != "192.0.2.2" {
		t.Errorf("after the swap: %q", got)
	}
	if err := e.Retire(g1); err != nil {
		t.Error(err)
	}
	if n := first.told.Load() + first.asked.Load(); n != 10 {
		t.Errorf("%d hits told and misses, want 10", n)
	}
	if got := ask(t, addr, "b.test."); got != "192.0.2.2" {
		t.Errorf("after the old one ended: %q", got)
	}
	if err := e.Retire(g2); err != nil {
		t.Error(err)
	}
	if runtime.GOMAXPROCS(0) != procs {
		t.Errorf("GOMAXPROCS is %d, was %d", runtime.GOMAXPROCS(0), procs)
	}
	// The listener's own socket gets its packets again.
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { ask(t, addr, "c.test.") })
	own.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := own.ReadFrom(make([]byte, 512)); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := e.Adopt(Config{}); err == nil {
		t.Error("adopted after Close")
	}
}

// TestEpochEndsAtOnce: no reply is repeated once Add has returned.
func TestEpochEndsAtOnce(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	var epoch answer.Epoch
	c := &chain{address: "192.0.2.1", share: answer.Shareable{Epoch: &epoch}}
	adopt(t, e, addr, c)
	hits := 0
	for i := range 200 {
		before := c.asked.Load()
		ask(t, addr, "a.test.")
		if c.asked.Load() == before {
			t.Fatalf("round %d: repeated", i)
		}
		before = c.asked.Load()
		ask(t, addr, "a.test.") // which may come before the reply is learnt
		if c.asked.Load() == before {
			hits++
		}
		c.seen.Store(epoch.Add(1))
	}
	if hits == 0 {
		t.Error("nothing was ever repeated")
	}
}

// TestNoQueryIsLost swaps generations under load, with queries under way in the chain.
func TestNoQueryIsLost(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	g := adopt(t, e, addr, &chain{address: "192.0.2.1"})
	var wg sync.WaitGroup
	var sent, lost atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				sent.Add(1)
				if ask(t, addr, []string{"same.test.", string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+i)) + ".test."}[n%2]) == "" {
					lost.Add(1)
				}
			}
		})
	}
	for range 30 {
		next := adopt(t, e, addr, &chain{address: "192.0.2.1"})
		if err := e.Retire(g); err != nil {
			t.Error(err)
		}
		g = next
	}
	stop()
	wg.Wait()
	if lost.Load() > 0 || sent.Load() < 100 {
		t.Errorf("%d of %d lost", lost.Load(), sent.Load())
	}
}

// TestCollection forces collections while a loop waits in a system call that the
// scheduler does not see. One that cannot be stopped would hold each of them up.
func TestCollection(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	c := &chain{address: "192.0.2.1"}
	adopt(t, e, addr, c)
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := pack(t, new(dns.Msg).SetQuestion("a.test.", dns.TypeA))
	var worst time.Duration
	buf := make([]byte, 512)
	for range 200 {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(buf); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		runtime.GC() // within the time that a loop holds its thread
		worst = max(worst, time.Since(begin))
	}
	t.Logf("the longest of 200 collections took %s", worst)
	if worst > 2*time.Second {
		t.Errorf("a collection took %s", worst)
	}
	if c.asked.Load() > 2 {
		t.Errorf("the chain was asked %d times", c.asked.Load())
	}
}

// TestFullQueue: when the chain stands still, what is learnt is answered on.
func TestFullQueue(t *testing.T) {
	e := New(nil)
	defer e.Close()
	addr, _ := listen(t)
	c := &chain{address: "192.0.2.1", hold: make(chan struct{})}
	adopt(t, e, addr, c)
	for c.told.Load() == 0 { // until it is learnt
		if ask(t, addr, "a.test.") == "" {
			t.Fatal("no answer")
		}
	}
	c.held.Store(true)
	defer close(c.hold)
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 2000 {
		m := new(dns.Msg).SetQuestion("x.test.", dns.TypeA)
		m.Question[0].Name = string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + ".test."
		if _, err := conn.Write(pack(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(t, addr, "a.test."); got != "192.0.2.1" {
		t.Errorf("got %q", got)
	}
}

// TestWildcard binds what Hosts says, and follows it.
func TestWildcard(t *testing.T) {
	e := New(nil)
	defer e.Close()
	specific, own := listen(t)
	own.Close()
	lc := net.ListenConfig{Control: reusePort}
	any := netip.AddrPortFrom(netip.IPv6Unspecified(), specific.Port())
	pc, err := lc.ListenPacket(t.Context(), "udp", any.String())
	if err != nil {
		t.Skip("no wildcard socket: ", err)
	}
	defer pc.Close()
	hosts := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("192.0.2.250")}
	c := &chain{address: "192.0.2.1"}
	g, err := e.Adopt(Config{Addr: any, Local: net.UDPAddrFromAddrPort(any), Table: NewTable(), Serve: c.serve, Hosts: func() []netip.Addr { return hosts }})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts[:2] {
		if got := ask(t, netip.AddrPortFrom(h, any.Port()), "a.test."); got != "192.0.2.1" {
			t.Errorf("%s: %q", h, got)
		}
	}
	hosts = hosts[:1]
	e.mu.Lock()
	e.rehost(g.plane)
	e.mu.Unlock()
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { ask(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), any.Port()), "c.test.") })
	pc.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := pc.ReadFrom(make([]byte, 512)); err != nil {
		t.Errorf("the wildcard socket does not get what the other left: %v", err)
	}
	if got := ask(t, netip.AddrPortFrom(hosts[0], any.Port()), "a.test."); got != "192.0.2.1" {
		t.Errorf("%q", got)
	}
}
