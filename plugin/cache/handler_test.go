package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	engine "github.com/resolverd/resolverd/cache"
	"github.com/resolverd/resolverd/internal/answer"
)

// source is the next plugin of a test: what it answers can be changed, and it counts.
type source struct {
	mu     sync.Mutex
	answer func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error)
	calls  atomic.Int64
}

func (s *source) Name() string { return "source" }

func (s *source) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	s.calls.Add(1)
	s.mu.Lock()
	f := s.answer
	s.mu.Unlock()
	return f(ctx, w, r)
}

func (s *source) set(f func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// says makes an answer of an RCODE and RRs in zone-file form; those of type SOA go into
// AUTHORITY.
func says(rcode int, rrs ...string) func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetRcode(r, rcode)
		m.RecursionAvailable = true
		for _, s := range rrs {
			rr, err := dns.NewRR(s)
			if err != nil {
				return dns.RcodeServerFailure, err
			}
			if rr.Header().Rrtype == dns.TypeSOA {
				m.Ns = append(m.Ns, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		return dns.RcodeSuccess, w.WriteMsg(m)
	}
}

var errNoUpstream = errors.New("no upstream answers")

func fails(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeServerFailure, errNoUpstream
}

// handler returns a handler with the options of a directive's block.
func handler(t *testing.T, opt options) (*Handler, *source) {
	t.Helper()
	store, err := engine.New("test", opt.size)
	if err != nil {
		t.Fatal(err)
	}
	h, s := newHandler(store, opt), &source{}
	h.Next = s
	return h, s
}

func ask(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return m
}

func serve(t *testing.T, h *Handler, r *dns.Msg) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := h.ServeDNS(t.Context(), rec, r); err != nil {
		t.Fatal(err)
	}
	if rec.Msg == nil {
		t.Fatalf("no response to %s", r.Question[0].String())
	}
	return rec.Msg
}

func TestHitAgesAndSpells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
		serve(t, h, ask("www.example.org.", dns.TypeA))
		time.Sleep(10 * time.Second)

		r := ask("WwW.eXample.ORG.", dns.TypeA)
		m := serve(t, h, r)
		if n := s.calls.Load(); n != 1 {
			t.Fatalf("source was asked %d times, want once", n)
		}
		if m.Id != r.Id || m.Question[0].Name != "WwW.eXample.ORG." || m.Answer[0].Header().Name != "WwW.eXample.ORG." {
			t.Errorf("reply is not the client's: %v", m)
		}
		if ttl := m.Answer[0].Header().Ttl; ttl != 50 {
			t.Errorf("TTL after 10 s = %d, want 50", ttl)
		}
		time.Sleep(50 * time.Second)
		serve(t, h, ask("www.example.org.", dns.TypeA))
		if n := s.calls.Load(); n != 2 {
			t.Errorf("source was asked %d times after expiry, want twice", n)
		}
	})
}

func TestOneFetchHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(slowly(100*time.Millisecond, says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")))
		// The first client leaves before the answer is there.
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = h.ServeDNS(gone, dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA))
		})
		synctest.Wait()
		got := make([]*dns.Msg, 200)
		for i := range got {
			wg.Go(func() {
				r := ask("www.example.org.", dns.TypeA)
				if i%2 == 1 {
					r.Question[0].Name = "WWW.example.org."
				}
				r.Id = uint16(i)
				got[i] = serve(t, h, r)
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Fatalf("source was asked %d times, want once", n)
		}
		for i, m := range got {
			if m.Id != uint16(i) || len(m.Answer) != 1 || m.Answer[0].Header().Name != m.Question[0].Name {
				t.Fatalf("client %d got %v", i, m)
			}
			m.Answer[0].Header().Ttl = 1 // its own copy: changing it must not show elsewhere
		}
		if m := serve(t, h, ask("www.example.org.", dns.TypeA)); m.Answer[0].Header().Ttl != 60 {
			t.Errorf("TTL = %d, want 60", m.Answer[0].Header().Ttl)
		}
	})
}

func TestFailureOfTheFetchReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			time.Sleep(time.Second)
			return fails(ctx, w, r)
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				code, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA))
				if code != dns.RcodeServerFailure || !errors.Is(err, errNoUpstream) {
					t.Errorf("got %d, %v", code, err)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Fatalf("source was asked %d times, want once", n)
		}
		// It is kept for five seconds, and says so.
		r := ask("www.example.org.", dns.TypeA)
		r.SetEdns0(1232, false)
		m := serve(t, h, r)
		if m.Rcode != dns.RcodeServerFailure || !hasEDE(m, dns.ExtendedErrorCodeCachedError) {
			t.Errorf("got %v, want a SERVFAIL with EDE 13", m)
		}
		time.Sleep(5 * time.Second)
		if _, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); err == nil {
			t.Error("after five seconds the failure is still served")
		}
	})
}

func hasEDE(m *dns.Msg, code uint16) bool {
	opt := m.IsEdns0()
	if opt == nil {
		return false
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok && e.InfoCode == code {
			return true
		}
	}
	return false
}

func TestPanicBelowStrandsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			time.Sleep(time.Second)
			panic("below")
		})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				defer func() { _ = recover() }()
				if code, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); code != dns.RcodeServerFailure || err == nil {
					t.Errorf("got %d, %v", code, err)
				}
			})
		}
		wg.Wait()
	})
}

// tcp is a client over TCP.
type tcp struct{ test.ResponseWriter }

func (tcp) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 1} }

func TestTruncatedIsNeitherKeptNorSharedAcrossTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			time.Sleep(time.Second)
			m := new(dns.Msg)
			m.SetReply(r)
			if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
				m.Answer = []dns.RR{test.A("www.example.org. 60 IN A 192.0.2.1")}
			} else {
				m.Truncated = true
			}
			return dns.RcodeSuccess, w.WriteMsg(m)
		})
		var wg sync.WaitGroup
		udp := func() {
			if m := serve(t, h, ask("www.example.org.", dns.TypeA)); !m.Truncated {
				t.Errorf("udp got %v", m)
			}
		}
		wg.Go(udp)
		synctest.Wait()
		for range 3 {
			wg.Go(udp)
		}
		for range 3 {
			wg.Go(func() {
				rec := dnstest.NewRecorder(&tcp{})
				if _, err := h.ServeDNS(t.Context(), rec, ask("www.example.org.", dns.TypeA)); err != nil || rec.Msg.Truncated || len(rec.Msg.Answer) != 1 {
					t.Errorf("tcp got %v, %v", rec.Msg, err)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 2 {
			t.Errorf("source was asked %d times, want twice", n)
		}
	})
}

func TestKeyParts(t *testing.T) {
	edns := func(do bool, opts ...dns.EDNS0) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(1232, do)
			m.IsEdns0().Option = opts
		}
	}
	tests := []struct {
		name   string
		change func(*dns.Msg)
		same   bool // answered from the entry of the plain query
	}{
		{"plain", func(*dns.Msg) {}, true},
		{"AD", func(m *dns.Msg) { m.AuthenticatedData = true }, true},
		{"EDNS", edns(false), true},
		{"cookie", edns(false, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}), true},
		{"upper case", func(m *dns.Msg) { m.Question[0].Name = "WWW.EXAMPLE.ORG." }, true},
		{"DO", edns(true), false},
		{"no RD", func(m *dns.Msg) { m.RecursionDesired = false }, false},
		{"CD", func(m *dns.Msg) { m.CheckingDisabled = true }, false},
		{"class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, false},
		{"type", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }, false},
		{"name", func(m *dns.Msg) { m.Question[0].Name = "w.example.org." }, false},
		{"client subnet", edns(false, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}), false},
		{"local option", edns(false, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}), false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h, s := handler(t, defaults())
			defer h.close()
			s.set(says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
			serve(t, h, ask("www.example.org.", dns.TypeA))
			r := ask("www.example.org.", dns.TypeA)
			tc.change(r)
			serve(t, h, r)
			if same := s.calls.Load() == 1; same != tc.same {
				t.Errorf("answered from the entry: %v, want %v", same, tc.same)
			}
		})
	}
}

func TestWhatIsNoQueryPasses(t *testing.T) {
	for name, r := range map[string]*dns.Msg{
		"update":       new(dns.Msg).SetUpdate("example.org."),
		"notify":       new(dns.Msg).SetNotify("example.org."),
		"axfr":         new(dns.Msg).SetAxfr("example.org."),
		"no question":  {},
		"two question": {Question: []dns.Question{{Name: "a.", Qtype: 1, Qclass: 1}, {Name: "b.", Qtype: 1, Qclass: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			h, s := handler(t, defaults())
			defer h.close()
			w := dnstest.NewRecorder(&test.ResponseWriter{})
			sent := []*dns.Msg{new(dns.Msg).SetReply(r), new(dns.Msg).SetReply(r)}
			s.set(func(ctx context.Context, got dns.ResponseWriter, m *dns.Msg) (int, error) {
				if m != r || answer.PolicyFrom(ctx) != nil {
					t.Error("the query was not handed on as it is")
				}
				for _, m := range sent {
					if err := got.WriteMsg(m); err != nil {
						t.Error(err)
					}
				}
				return 0, nil
			})
			if _, err := h.ServeDNS(t.Context(), w, r); err != nil || s.calls.Load() != 1 || w.Msg != sent[1] {
				t.Errorf("calls %d, wrote %v, %v", s.calls.Load(), w.Msg, err)
			}
		})
	}
}

func TestAuthenticatedDataIsPerClient(t *testing.T) {
	h, s := handler(t, defaults())
	defer h.close()
	s.set(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.AuthenticatedData = r.AuthenticatedData
		m.Answer = []dns.RR{test.A("www.example.org. 60 IN A 192.0.2.1")}
		return 0, w.WriteMsg(m)
	})
	for i, ad := range []bool{false, true, false} {
		r := ask("www.example.org.", dns.TypeA)
		r.AuthenticatedData = ad
		if m := serve(t, h, r); m.AuthenticatedData != ad {
			t.Errorf("query %d with AD %v got AD %v", i, ad, m.AuthenticatedData)
		}
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("source was asked %d times, want once", n)
	}
}

func TestSpoofedResponseIsNotKept(t *testing.T) {
	h, s := handler(t, defaults())
	defer h.close()
	s.set(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetReply(ask("other.example.", dns.TypeA))
		m.Answer = []dns.RR{test.A("other.example. 60 IN A 192.0.2.66")}
		return 0, w.WriteMsg(m)
	})
	dropped := testutil.ToFloat64(h.seriesOf("").drops)
	serve(t, h, ask("www.example.org.", dns.TypeA))
	if n, d := h.store.Counts(); n+d != 0 {
		t.Errorf("%d entries", n+d)
	}
	if n := testutil.ToFloat64(h.seriesOf("").drops); n != dropped+1 {
		t.Errorf("%v drops", n-dropped)
	}
}

// vandal is a plugin's writer that changes what it is given.
type vandal struct{ test.ResponseWriter }

func (*vandal) WriteMsg(m *dns.Msg) error {
	for _, rr := range m.Answer {
		rr.Header().Name, rr.Header().Ttl = "vandal.", 666
	}
	m.Answer, m.Rcode = m.Answer[:0], dns.RcodeRefused
	return nil
}

// What the plugins above do to the response of one client must not show to another.
func TestResponsesAreNotShared(t *testing.T) {
	for _, ttl := range []string{"0", "60"} {
		t.Run("TTL "+ttl, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := handler(t, defaults())
				defer h.close()
				s.set(slowly(time.Second, says(dns.RcodeSuccess, "www.example.org. "+ttl+" IN A 192.0.2.1")))
				var wg sync.WaitGroup
				spoil := func() {
					if _, err := h.ServeDNS(t.Context(), &vandal{}, ask("www.example.org.", dns.TypeA)); err != nil {
						t.Error(err)
					}
				}
				wg.Go(spoil)
				synctest.Wait()
				for i := range 20 {
					if i%2 == 0 {
						wg.Go(spoil)
						continue
					}
					wg.Go(func() {
						if m := serve(t, h, ask("www.example.org.", dns.TypeA)); addressOf(m) != "192.0.2.1" || m.Answer[0].Header().Name != "www.example.org." {
							t.Errorf("got %v", m)
						}
					})
				}
				wg.Wait()
				if n := s.calls.Load(); n != 1 {
					t.Errorf("%d fetches", n)
				}
			})
		})
	}
}

// stuck is a client over TCP that does not read.
type stuck struct {
	tcp
	until chan struct{}
}

func (s *stuck) WriteMsg(*dns.Msg) error {
	<-s.until
	return nil
}

func TestClientThatDoesNotReadDelaysNobody(t *testing.T) {
	for _, ttl := range []string{"0", "60"} {
		t.Run("TTL "+ttl, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := handler(t, defaults())
				defer h.close()
				s.set(slowly(time.Second, says(dns.RcodeSuccess, "www.example.org. "+ttl+" IN A 192.0.2.1")))
				until := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := h.ServeDNS(t.Context(), &stuck{until: until}, ask("www.example.org.", dns.TypeA)); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
				began := time.Now()
				if m := serve(t, h, ask("www.example.org.", dns.TypeA)); addressOf(m) != "192.0.2.1" {
					t.Errorf("got %v", m)
				}
				if took := time.Since(began); took != time.Second || s.calls.Load() != 1 {
					t.Errorf("answered after %v and %d fetches", took, s.calls.Load())
				}
				close(until)
				wg.Wait()
			})
		})
	}
}

// Everything at once, for the race detector: clients, prefetches, stale entries, flushes.
func TestStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.terms.MinSuccess = time.Second
		opt.stale = stale{upTo: time.Minute, verify: true, timeout: 5 * time.Millisecond, recheck: time.Second}
		opt.prefetch = prefetch{amount: 1, window: time.Minute, percent: 50}
		h, s := handler(t, opt)
		s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			n := s.calls.Load()
			time.Sleep(time.Duration(n%10) * time.Millisecond)
			switch n % 7 {
			case 0:
				return fails(ctx, w, r)
			case 1:
				return servfail(ctx, w, r)
			case 2:
				return nxdomain(ctx, w, r)
			}
			return says(dns.RcodeSuccess, fmt.Sprintf("%s %d IN A 192.0.2.1", r.Question[0].Name, n%4))(ctx, w, r)
		})
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for i := range 200 {
					r := ask(fmt.Sprintf("h%d.example.org.", (g*i)%10), dns.TypeA)
					r.Id = uint16(g)
					rec := dnstest.NewRecorder(&test.ResponseWriter{})
					code, err := h.ServeDNS(t.Context(), rec, r)
					switch {
					case err != nil:
						if code != dns.RcodeServerFailure {
							t.Errorf("%d, %v", code, err)
						}
					case rec.Msg == nil || rec.Msg.Id != r.Id || rec.Msg.Question[0] != r.Question[0]:
						t.Errorf("asked %v, got %v", r, rec.Msg)
					}
					if g == 0 && i%20 == 0 {
						h.store.Flush()
					}
					time.Sleep(time.Duration(g) * 7 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		h.close()
		if st := h.store.Stats(); st.Flying != 0 || st.Refreshes == 0 || st.Shared == 0 || st.StaleHits == 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestZones(t *testing.T) {
	opt := defaults()
	opt.zones = []string{"example.org."}
	opt.noSuccess, opt.noDenial = []string{"s.example.org."}, []string{"d.example.org."}
	soa := "example.org. 60 IN SOA ns.example.org. h.example.org. 1 2 3 4 60"
	for _, tc := range []struct {
		name  string
		nx    bool
		calls int64
	}{
		{"a.example.org.", false, 1},
		{"a.example.org.", true, 1},
		{"s.example.org.", false, 2},
		{"s.example.org.", true, 1},
		{"x.d.example.org.", false, 1},
		{"x.d.example.org.", true, 2},
		{"example.net.", false, 2},
		{"mutable.example.org.", false, 2},
	} {
		t.Run(fmt.Sprint(tc.name, tc.nx), func(t *testing.T) {
			h, s := handler(t, opt)
			defer h.close()
			h.bypass = []string{"mutable.example.org."}
			if tc.nx {
				s.set(says(dns.RcodeNameError, soa))
			} else {
				s.set(says(dns.RcodeSuccess, tc.name+" 60 IN A 192.0.2.1"))
			}
			serve(t, h, ask(tc.name, dns.TypeA))
			serve(t, h, ask(tc.name, dns.TypeA))
			if n := s.calls.Load(); n != tc.calls {
				t.Errorf("source was asked %d times, want %d", n, tc.calls)
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	marked := func(set func(*answer.Policy), f func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error)) func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
		return func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			set(answer.PolicyFrom(ctx))
			return f(ctx, w, r)
		}
	}
	exact := func(p *answer.Policy) { p.NoMinimum, p.NoStale = true, true }
	a := func(ttl int) func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
		return says(dns.RcodeSuccess, fmt.Sprintf("www.example.org. %d IN A 192.0.2.1", ttl))
	}
	for _, tc := range []struct {
		name   string
		answer func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error)
		after  time.Duration
		calls  int64
		ttl    uint32
	}{
		{"minimum", a(1), 2 * time.Second, 1, 5},
		{"no minimum", marked(exact, a(1)), 2 * time.Second, 2, 1},
		{"zero", a(0), 0, 2, 0},
		{"zero, no minimum", marked(exact, a(0)), 0, 2, 0},
		{"stale", a(10), 20 * time.Second, 2, 10},
		{"no store", marked(func(p *answer.Policy) { p.NoStore = true }, a(60)), 0, 2, 60},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := defaults()
				opt.stale.upTo = time.Hour
				h, s := handler(t, opt)
				defer h.close()
				s.set(tc.answer)
				if m := serve(t, h, ask("www.example.org.", dns.TypeA)); m.Answer[0].Header().Ttl != tc.ttl {
					t.Errorf("TTL = %d, want %d", m.Answer[0].Header().Ttl, tc.ttl)
				}
				time.Sleep(tc.after)
				serve(t, h, ask("www.example.org.", dns.TypeA))
				synctest.Wait()
				if n := s.calls.Load(); n != tc.calls {
					t.Errorf("source was asked %d times, want %d", n, tc.calls)
				}
			})
		})
	}
	t.Run("no stale", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			opt := defaults()
			opt.stale.upTo = time.Hour
			h, s := handler(t, opt)
			defer h.close()
			s.set(marked(exact, a(10)))
			serve(t, h, ask("www.example.org.", dns.TypeA))
			time.Sleep(20 * time.Second)
			s.set(fails)
			if _, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); err == nil {
				t.Error("a stale entry was served")
			}
		})
	})
}

func TestShare(t *testing.T) {
	a := says(dns.RcodeSuccess, "www.example.org. 100 IN A 192.0.2.1")
	for _, tc := range []struct {
		name   string
		change func(*options)
		answer func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error)
		after  time.Duration
		want   time.Duration // Until, after the store; 0 for not shared
		aging  bool
	}{
		{"until expiry", func(*options) {}, a, 0, 100 * time.Second, true},
		{"until prefetch", func(o *options) { o.prefetch.amount = 1 }, a, 0, 90 * time.Second, true},
		{"prefetch due", func(o *options) { o.prefetch.amount = 3 }, a, 95 * time.Second, 0, true},
		{"stale", func(o *options) { o.stale.upTo = time.Hour }, a, 200 * time.Second, 0, true},
		{"keepttl", func(o *options) { o.keepTTL = true }, a, 0, 100 * time.Second, false},
		{"failure", func(*options) {}, says(dns.RcodeServerFailure), 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := defaults()
				tc.change(&opt)
				h, s := handler(t, opt)
				defer h.close()
				s.set(tc.answer)
				stored := time.Now()
				serve(t, h, ask("www.example.org.", dns.TypeA))
				time.Sleep(tc.after)
				v := new(answer.Verdict)
				rec := dnstest.NewRecorder(&test.ResponseWriter{})
				if _, err := h.ServeDNS(answer.WithVerdict(t.Context(), v), rec, ask("www.example.org.", dns.TypeA)); err != nil {
					t.Fatal(err)
				}
				got, ok := v.Shareable()
				if ok != (tc.want != 0) {
					t.Fatalf("shared = %v", ok)
				}
				if ok && (got.Until.Sub(stored) != tc.want || got.Aging != tc.aging || got.Epoch.Load() != got.Seen) {
					t.Errorf("got %+v, until %v", got, got.Until.Sub(stored))
				}
				if ok {
					h.store.Flush()
					if got.Epoch.Load() == got.Seen {
						t.Error("the flush did not raise the epoch")
					}
				}
				synctest.Wait()
			})
		})
	}
}

func TestFlushWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			time.Sleep(time.Second)
			return says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")(ctx, w, r)
		})
		var wg sync.WaitGroup
		wg.Go(func() { serve(t, h, ask("www.example.org.", dns.TypeA)) })
		synctest.Wait()
		h.store.Flush()
		// This one must not get what was asked for before the flush.
		s.set(says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.2"))
		if m := serve(t, h, ask("www.example.org.", dns.TypeA)); m.Answer[0].(*dns.A).A.String() != "192.0.2.2" {
			t.Errorf("got %v", m)
		}
		wg.Wait()
		if m := serve(t, h, ask("www.example.org.", dns.TypeA)); m.Answer[0].(*dns.A).A.String() != "192.0.2.2" {
			t.Errorf("the old result was stored: %v", m)
		}
	})
}

func TestNilResponse(t *testing.T) {
	h, s := handler(t, defaults())
	defer h.close()
	s.set(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
		if err := w.WriteMsg(nil); err == nil {
			t.Error("a nil message was taken")
		}
		return dns.RcodeServerFailure, plugin.Error("source", errNoUpstream)
	})
	if _, err := h.ServeDNS(t.Context(), dnstest.NewRecorder(&test.ResponseWriter{}), ask("a.", dns.TypeA)); err == nil {
		t.Error("no error")
	}
}

// A plugin below that asks the chain again for the same question, as a CNAME loop across
// zones does, must not wait for itself.
func TestNestedQueryDoesNotWaitForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := handler(t, defaults())
		defer h.close()
		s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			if s.calls.Load() == 1 {
				if _, err := h.ServeDNS(ctx, dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); err != nil {
					t.Error(err)
				}
			} else {
				answer.Exact(ctx)
			}
			return says(dns.RcodeSuccess, "www.example.org. 1 IN A 192.0.2.1")(ctx, w, r)
		})
		began := time.Now()
		if m := serve(t, h, ask("www.example.org.", dns.TypeA)); len(m.Answer) != 1 || time.Since(began) != 0 {
			t.Errorf("after %v got %v", time.Since(began), m)
		}
		// The inner response's terms are the outer one's.
		time.Sleep(time.Second)
		serve(t, h, ask("www.example.org.", dns.TypeA))
		if n := s.calls.Load(); n != 3 {
			t.Errorf("source was asked %d times, want 3", n)
		}
	})
}
