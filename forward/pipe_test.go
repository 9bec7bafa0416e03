package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// rawTCP serves each connection by f on loopback until the test ends, and counts them.
func rawTCP(t *testing.T, f func(c net.Conn)) (netip.AddrPort, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		conns atomic.Int32
		all   sync.WaitGroup
	)
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort(), &conns
}

// readQuery returns nil at the end of the connection.
func readQuery(c net.Conn) *dns.Msg {
	m, err := (&dns.Conn{Conn: c}).ReadMsg()
	if err != nil {
		return nil
	}
	return m
}

func writeReply(c net.Conn, m *dns.Msg) { _ = (&dns.Conn{Conn: c}).WriteMsg(answerA(m)) }

func overTCP(o *Options) { o.ForceTCP, o.MaxAttempts, o.ReadTimeout = true, 1, 5*time.Second }

// warm has the upstream trusted with several queries on a connection.
func warm(t *testing.T, p *Pool) {
	t.Helper()
	for range 8 {
		if got := ask(t, p, nil); got != "NOERROR 1 tcp" {
			t.Fatal(got)
		}
	}
}

// askMany asks for n names at once, and returns how many got an answer.
func askMany(t *testing.T, p *Pool, n int) int {
	t.Helper()
	var (
		wg   sync.WaitGroup
		good atomic.Int32
	)
	for i := range n {
		wg.Go(func() {
			r, err := p.Exchange(t.Context(), Query{Msg: new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.org.", i), dns.TypeA)})
			if err != nil {
				t.Logf("n%d: %v", i, err)
			} else if len(r.Msg.Answer) == 1 {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	return int(good.Load())
}

// Queries share a connection, and replies may come in any order.
func TestPipelining(t *testing.T) {
	const n = 16
	addr, conns := rawTCP(t, func(c net.Conn) {
		for range 8 {
			if m := readQuery(c); m != nil {
				writeReply(c, m)
			}
		}
		var held []*dns.Msg
		for range n {
			if m := readQuery(c); m != nil {
				held = append(held, m)
			}
		}
		for i := range held {
			writeReply(c, held[len(held)-1-i])
		}
	})
	p, rec := poolOf(t, overTCP, plain(addr))
	warm(t, p)
	if got := askMany(t, p, n); got != n {
		t.Errorf("%d of %d answered", got, n)
	}
	if got := conns.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
	if n := rec.ignored.Load(); n != 0 {
		t.Errorf("%d replies ignored", n)
	}
}

// An upstream that closes the connection with queries on it costs none of them its answer.
func TestPipelinedQueriesAreDropped(t *testing.T) {
	var generous atomic.Bool
	generous.Store(true)
	addr, conns := rawTCP(t, func(c net.Conn) {
		for m := readQuery(c); m != nil; m = readQuery(c) {
			writeReply(c, m)
			if !generous.Load() {
				return // what else was sent is lost
			}
		}
	})
	p, _ := poolOf(t, overTCP, plain(addr))
	warm(t, p)
	generous.Store(false)
	const n = 20
	if got := askMany(t, p, n); got != n {
		t.Errorf("%d of %d answered", got, n)
	}
	before := conns.Load()
	if got := askMany(t, p, n); got != n {
		t.Errorf("then %d of %d answered", got, n)
	}
	if fresh := conns.Load() - before; fresh != n {
		t.Errorf("%d connections for %d queries to an upstream that takes one on each", fresh, n)
	}
}

// Who waits for a slow name on a connection that answers in order does not hold up others
// for long.
func TestStalledConnection(t *testing.T) {
	release := make(chan struct{})
	slow := make(chan struct{})
	addr, conns := rawTCP(t, func(c net.Conn) {
		for m := readQuery(c); m != nil; m = readQuery(c) {
			if m.Question[0].Name == "slow.example.org." {
				close(slow)
				<-release
			}
			writeReply(c, m)
		}
	})
	p, _ := poolOf(t, overTCP, plain(addr))
	warm(t, p)
	var first sync.WaitGroup
	first.Go(func() {
		got := ask(t, p, func(q *Query) { q.Msg.SetQuestion("slow.example.org.", dns.TypeA) })
		if got != "NOERROR 1 tcp" {
			t.Error(got)
		}
	})
	<-slow
	time.Sleep(stalled)
	if got := askMany(t, p, 4); got != 4 {
		t.Errorf("%d of 4 answered while one name hangs", got)
	}
	close(release)
	first.Wait()
	if n := conns.Load(); n < 2 {
		t.Errorf("%d connections", n)
	}
}

// A query that is given up leaves the connection to the others.
func TestCancelledOnAPipe(t *testing.T) {
	got := make(chan *dns.Msg, 2)
	addr, conns := rawTCP(t, func(c net.Conn) {
		for m := readQuery(c); m != nil; m = readQuery(c) {
			if m.Question[0].Name == "slow.example.org." {
				got <- m
				continue
			}
			writeReply(c, m)
		}
	})
	p, _ := poolOf(t, overTCP, plain(addr))
	warm(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	gone.Go(func() {
		if _, err := p.Exchange(ctx, Query{Msg: new(dns.Msg).SetQuestion("slow.example.org.", dns.TypeA)}); err == nil {
			t.Error("an answer from nowhere")
		}
	})
	<-got
	cancel()
	gone.Wait()
	if n := askMany(t, p, 4); n != 4 {
		t.Errorf("%d of 4 answered", n)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestKept: how long connections without a query are kept, and how many.
func TestKept(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		run     func(s *stream, use func(n int) []net.Conn) (closed []bool)
	}{
		{"unused for too long", Options{Expire: 10 * time.Second}, func(_ *stream, use func(int) []net.Conn) []bool {
			far := use(2)
			time.Sleep(9 * time.Second)
			before := ended(far)
			time.Sleep(2 * time.Second)
			return append(before, ended(far)...)
		}},
		{"too old", Options{Expire: 10 * time.Second, MaxAge: 15 * time.Second}, func(_ *stream, use func(int) []net.Conn) []bool {
			far := use(1)
			time.Sleep(8 * time.Second)
			use(0)
			before := ended(far)
			time.Sleep(8 * time.Second)
			use(0)
			return append(before, ended(far)...)
		}},
		{"no room", Options{Expire: 10 * time.Second, MaxIdle: 1}, func(_ *stream, use func(int) []net.Conn) []bool {
			return ended(use(2))
		}},
		{"closed", Options{Expire: 10 * time.Second}, func(s *stream, use func(int) []net.Conn) []bool {
			far := use(1)
			before := ended(far)
			s.close()
			return append(before, ended(far)...)
		}},
	}
	want := map[string]string{
		"unused for too long": "[false false true true]", "too old": "[false true]", "no room": "[true false]", "closed": "[false true]",
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream(dialer{}, nil, &tt.options, &counters{o: &recorder{}})
				// use gives back n new connections after a query on each, or uses what is there.
				use := func(n int) (far []net.Conn) {
					var on []*pipe
					for range n {
						near, c := net.Pipe()
						p := newPipe(near, s)
						go p.run()
						far, on = append(far, c), append(on, p)
					}
					if n == 0 {
						w := &waiter{done: make(chan struct{}, 1)}
						if p := s.join(w, time.Now()); p != nil {
							p.leave(w)
							on = append(on, p)
						}
					}
					for _, p := range on {
						p.used = time.Now()
					}
					for i := range on {
						s.rest(on[len(on)-1-i])
					}
					return far
				}
				if got := fmt.Sprint(tt.run(s, use)); got != want[tt.name] {
					t.Errorf("closed %s, want %s", got, want[tt.name])
				}
				s.close()
			})
		})
	}
}

// ended says of each connection whether its other end closed it.
func ended(far []net.Conn) (out []bool) {
	synctest.Wait()
	for _, c := range far {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		out = append(out, errors.Is(err, io.EOF))
	}
	return out
}

// FuzzPipe: whatever an upstream writes, a pipe ends or waits, and nobody gets what is not
// for the query.
func FuzzPipe(f *testing.F) {
	f.Add([]byte{0, 12, 0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 5})
	f.Fuzz(func(t *testing.T, in []byte) {
		near, far := net.Pipe()
		s := newStream(dialer{}, nil, &Options{Expire: time.Second}, &counters{o: &recorder{}})
		p := newPipe(near, s)
		go p.run()
		sent, _ := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
		w := &waiter{done: make(chan struct{}, 1), sent: sent, question: len(sent)}
		if !p.enter(w, 1) {
			t.Fatal("no room")
		}
		_ = far.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = far.Write(in)
		far.Close()
		<-w.done
		if w.err == nil && (binary.BigEndian.Uint16(w.packet) != w.id || w.packet[2]&0x80 == 0) {
			t.Errorf("took %x for %d", w.packet[:w.n], w.id)
		}
		<-p.gone
	})
}
