package cache

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
)

type respond = func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error)

func slowly(d time.Duration, f respond) respond {
	return func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		select {
		case <-time.After(d):
			return f(ctx, w, r)
		case <-ctx.Done():
			return dns.RcodeServerFailure, ctx.Err()
		}
	}
}

func addressOf(m *dns.Msg) string {
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String()
		}
	}
	return dns.RcodeToString[m.Rcode]
}

const soaLine = "example.org. 60 IN SOA ns.example.org. h.example.org. 1 2 3 4 60"

var (
	oldAnswer = says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	newAnswer = says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.2")
	nxdomain  = says(dns.RcodeNameError, soaLine)
	servfail  = says(dns.RcodeServerFailure)
)

// TestStale serves an entry, lets it expire, changes the source, and asks twice more.
func TestStale(t *testing.T) {
	type step struct {
		after time.Duration // before the query
		want  string        // address or RCODE
		ttl   uint32        // of the first RR; not looked at where 99
		took  time.Duration
		calls int64 // of the source in all, when the query is answered and the background has ended
	}
	hour := stale{upTo: time.Hour}
	with := func(s stale, change func(*stale)) stale { change(&s); return s }
	verify := with(hour, func(s *stale) { s.verify = true })
	timed := with(verify, func(s *stale) { s.timeout = 100 * time.Millisecond })
	for _, tc := range []struct {
		name   string
		stale  stale
		source respond
		steps  []step
	}{
		{"off", stale{}, newAnswer, []step{{time.Minute, "192.0.2.2", 60, 0, 2}}},
		{"immediate", hour, newAnswer, []step{{time.Minute, "192.0.2.1", 0, 0, 2}, {0, "192.0.2.2", 58, 0, 2}}},
		{"immediate with a TTL", with(hour, func(s *stale) { s.ttl = 30 * time.Second }), newAnswer, []step{{time.Minute, "192.0.2.1", 30, 0, 2}}},
		{"immediate, source slow", hour, slowly(time.Second, newAnswer), []step{{time.Minute, "192.0.2.1", 0, 0, 2}}},
		{"immediate, name gone", hour, nxdomain, []step{{time.Minute, "192.0.2.1", 0, 0, 2}, {0, "NXDOMAIN", 58, 0, 2}}},
		{"immediate, source fails", hour, fails, []step{{time.Minute, "192.0.2.1", 0, 0, 2}, {0, "192.0.2.1", 0, 0, 3}}},
		{"immediate, source says SERVFAIL", hour, servfail, []step{{time.Minute, "192.0.2.1", 0, 0, 2}, {0, "192.0.2.1", 0, 0, 3}}},
		{
			"immediate, recheck", with(hour, func(s *stale) { s.recheck = 30 * time.Second }), fails,
			[]step{{time.Minute, "192.0.2.1", 0, 0, 2}, {29 * time.Second, "192.0.2.1", 0, 0, 2}, {time.Second, "192.0.2.1", 0, 0, 3}},
		},
		{"beyond the window", hour, newAnswer, []step{{time.Hour + time.Minute, "192.0.2.2", 60, 0, 2}}},
		{"verify", verify, newAnswer, []step{{time.Minute, "192.0.2.2", 60, 0, 2}, {0, "192.0.2.2", 58, 0, 2}}},
		{"verify waits", verify, slowly(time.Second, newAnswer), []step{{time.Minute, "192.0.2.2", 99, time.Second, 2}}},
		{"verify, name gone", verify, nxdomain, []step{{time.Minute, "NXDOMAIN", 60, 0, 2}}},
		{"verify, source fails", verify, slowly(time.Second, fails), []step{{time.Minute, "192.0.2.1", 0, time.Second, 2}, {0, "192.0.2.1", 0, time.Second, 3}}},
		{"verify, TTL 0", verify, says(dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.3"), []step{{time.Minute, "192.0.2.3", 0, 0, 2}, {0, "192.0.2.3", 0, 0, 3}}},
		{"verify in time", timed, slowly(50*time.Millisecond, newAnswer), []step{{time.Minute, "192.0.2.2", 99, 50 * time.Millisecond, 2}}},
		{"verify too late", timed, slowly(time.Second, newAnswer), []step{{time.Minute, "192.0.2.1", 0, 100 * time.Millisecond, 2}, {0, "192.0.2.2", 99, 0, 2}}},
		{
			"verify, recheck", with(timed, func(s *stale) { s.recheck = 30 * time.Second }), fails,
			[]step{{time.Minute, "192.0.2.1", 0, 0, 2}, {29 * time.Second, "192.0.2.1", 0, 0, 2}, {time.Second, "192.0.2.1", 0, 0, 3}},
		},
		{"prefer positive, name gone", with(verify, func(s *stale) { s.preferPositive = true }), nxdomain, []step{{time.Minute, "192.0.2.1", 0, 0, 2}}},
		{
			"prefer positive, immediate", with(hour, func(s *stale) { s.preferPositive = true }), nxdomain,
			[]step{{time.Minute, "192.0.2.1", 0, 0, 2}, {0, "192.0.2.1", 0, 0, 3}, {time.Hour, "NXDOMAIN", 60, 0, 4}},
		},
		{"prefer positive, new answer", with(verify, func(s *stale) { s.preferPositive = true }), newAnswer, []step{{time.Minute, "192.0.2.2", 60, 0, 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := defaults()
				opt.stale = tc.stale
				h, s := handler(t, opt)
				defer h.close()
				s.set(oldAnswer)
				serve(t, h, ask("www.example.org.", dns.TypeA))
				s.set(tc.source)
				for i, st := range tc.steps {
					time.Sleep(st.after)
					began := time.Now()
					m := serve(t, h, ask("www.example.org.", dns.TypeA))
					if took := time.Since(began); took != st.took {
						t.Errorf("query %d took %v, want %v", i, took, st.took)
					}
					if got := addressOf(m); got != st.want {
						t.Errorf("query %d got %s, want %s", i, got, st.want)
					}
					if rrs := append(m.Answer, m.Ns...); len(rrs) == 0 || (st.ttl != 99 && rrs[0].Header().Ttl != st.ttl) {
						t.Errorf("query %d: want TTL %d in %v", i, st.ttl, rrs)
					}
					if len(tc.steps) > i+1 && tc.steps[i+1].after == 0 {
						time.Sleep(2 * time.Second) // the background ends
					}
					synctest.Wait()
					if n := s.calls.Load(); n != st.calls {
						t.Errorf("after query %d the source was asked %d times, want %d", i, n, st.calls)
					}
				}
			})
		})
	}
}

func TestStaleSaysSo(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source respond
		code   uint16
	}{
		{"answer", oldAnswer, dns.ExtendedErrorCodeStaleAnswer},
		{"nxdomain", nxdomain, dns.ExtendedErrorCodeStaleNXDOMAINAnswer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := defaults()
				opt.stale.upTo = time.Hour
				h, s := handler(t, opt)
				defer h.close()
				s.set(tc.source)
				r := ask("www.example.org.", dns.TypeA)
				r.SetEdns0(1232, false)
				if m := serve(t, h, r); m.IsEdns0() != nil {
					t.Errorf("the fresh response has %v", m.IsEdns0())
				}
				if m := serve(t, h, r); m.IsEdns0() != nil {
					t.Errorf("the fresh hit has %v", m.IsEdns0())
				}
				s.set(fails)
				time.Sleep(time.Minute)
				if m := serve(t, h, r); !hasEDE(m, tc.code) {
					t.Errorf("no EDE %d in %v", tc.code, m)
				}
				// Without EDNS there is no place for it.
				if m := serve(t, h, ask("www.example.org.", dns.TypeA)); m.IsEdns0() != nil {
					t.Errorf("an OPT for a client without: %v", m)
				}
				synctest.Wait()
			})
		})
	}
}

func TestErrorsOfTheSourceAreKept(t *testing.T) {
	h, s := handler(t, defaults())
	defer h.close()
	s.set(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return dns.RcodeSuccess, w.WriteMsg(answer.Servfail(r, dns.ExtendedErrorCodeNoReachableAuthority, "192.0.2.53 timed out"))
	})
	r := ask("www.example.org.", dns.TypeA)
	r.SetEdns0(1232, false)
	for i := range 2 {
		m := serve(t, h, r)
		if !hasEDE(m, dns.ExtendedErrorCodeNoReachableAuthority) {
			t.Errorf("query %d: no EDE 22 in %v", i, m)
		}
		if got := hasEDE(m, dns.ExtendedErrorCodeCachedError); got != (i == 1) {
			t.Errorf("query %d: EDE 13 is %v", i, got)
		}
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("source was asked %d times", n)
	}
}

// Many clients at a time cause one refresh.
func TestStaleRefreshIsShared(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stale stale
		want  string
	}{
		{"immediate", stale{upTo: time.Hour}, "192.0.2.1"},
		{"verify", stale{upTo: time.Hour, verify: true}, "192.0.2.2"},
		{"verify with a timeout", stale{upTo: time.Hour, verify: true, timeout: 10 * time.Millisecond}, "192.0.2.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := defaults()
				opt.stale = tc.stale
				h, s := handler(t, opt)
				defer h.close()
				s.set(oldAnswer)
				serve(t, h, ask("www.example.org.", dns.TypeA))
				s.set(slowly(time.Second, newAnswer))
				time.Sleep(time.Minute)
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						if got := addressOf(serve(t, h, ask("www.example.org.", dns.TypeA))); got != tc.want {
							t.Errorf("got %s, want %s", got, tc.want)
						}
					})
				}
				wg.Wait()
				time.Sleep(2 * time.Second)
				if n := s.calls.Load(); n != 2 {
					t.Errorf("source was asked %d times, want twice", n)
				}
			})
		})
	}
}

func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.prefetch = prefetch{amount: 2, window: time.Minute, percent: 10}
		h, s := handler(t, opt)
		defer h.close()
		s.set(oldAnswer)
		get := func() *dns.Msg {
			m := serve(t, h, ask("www.example.org.", dns.TypeA))
			synctest.Wait()
			return m
		}
		get()
		get()
		time.Sleep(53 * time.Second)
		get() // popular, but seven seconds remain
		if n := s.calls.Load(); n != 1 {
			t.Fatalf("prefetched too early: %d fetches", n)
		}
		// A failed one changes nothing and is not tried again at once.
		s.set(servfail)
		time.Sleep(time.Second)
		get()
		get()
		if n := s.calls.Load(); n != 2 {
			t.Fatalf("%d fetches, want 2", n)
		}
		s.set(newAnswer)
		time.Sleep(time.Second)
		if got := addressOf(get()); got != "192.0.2.1" {
			t.Errorf("got %s before the prefetch", got)
		}
		if n := s.calls.Load(); n != 3 {
			t.Fatalf("%d fetches, want 3", n)
		}
		m := get()
		if addressOf(m) != "192.0.2.2" || m.Answer[0].Header().Ttl != 60 {
			t.Errorf("after the prefetch got %v", m)
		}
		// Its successor is as popular.
		time.Sleep(55 * time.Second)
		get()
		if n := s.calls.Load(); n != 4 {
			t.Errorf("%d fetches, want 4", n)
		}
	})
}

func TestUnpopularIsNotPrefetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.prefetch = prefetch{amount: 2, window: 10 * time.Second, percent: 50}
		h, s := handler(t, opt)
		defer h.close()
		s.set(oldAnswer)
		for range 3 { // each after a gap
			serve(t, h, ask("www.example.org.", dns.TypeA))
			time.Sleep(19 * time.Second)
		}
		synctest.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestPrefetchDue(t *testing.T) {
	for _, tc := range []struct {
		percent int
		life    time.Duration
		want    time.Duration
	}{{10, time.Hour, 6 * time.Minute}, {10, 5 * time.Second, time.Second}, {10, time.Second, time.Second}, {50, 5 * time.Second, 3 * time.Second}, {90, 10 * time.Second, 9 * time.Second}} {
		if got := (prefetch{percent: tc.percent}).due(tc.life); got != tc.want {
			t.Errorf("%d %% of %v: %v, want %v", tc.percent, tc.life, got, tc.want)
		}
	}
}

// The background sees neither the client's departure, nor its verdict, nor its address.
func TestBackgroundIsDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.stale.upTo = time.Hour
		h, s := handler(t, opt)
		defer h.close()
		s.set(oldAnswer)
		serve(t, h, ask("www.example.org.", dns.TypeA))
		time.Sleep(time.Minute)
		s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			answer.FromContext(ctx).Veto("below")
			metadata.SetValueFunc(ctx, "test/label", func() string { return "x" })
			if !r.AuthenticatedData || w.RemoteAddr().Network() != "tcp" || w.LocalAddr() == nil {
				t.Errorf("the refresh asks with %v from %v", r.MsgHdr, w.RemoteAddr())
			}
			_ = w.Close()
			_ = w.TsigStatus()
			w.TsigTimersOnly(true)
			w.Hijack()
			return slowly(time.Second, newAnswer)(ctx, w, r)
		})
		v := new(answer.Verdict)
		ctx, leave := context.WithCancel(metadata.ContextWithMetadata(answer.WithVerdict(t.Context(), v)))
		if _, err := h.ServeDNS(ctx, dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		leave()
		time.Sleep(2 * time.Second)
		if v.Vetoed() != "" || metadata.ValueFunc(ctx, "test/label") != nil {
			t.Error("the background reached into the client's query")
		}
		if got := addressOf(serve(t, h, ask("www.example.org.", dns.TypeA))); got != "192.0.2.2" {
			t.Errorf("got %s after the refresh", got)
		}
	})
}

func TestPanicInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.stale = stale{upTo: time.Hour, verify: true}
		h, s := handler(t, opt)
		defer h.close()
		s.set(oldAnswer)
		serve(t, h, ask("www.example.org.", dns.TypeA))
		time.Sleep(time.Minute)
		s.set(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { panic("below") })
		if got := addressOf(serve(t, h, ask("www.example.org.", dns.TypeA))); got != "192.0.2.1" {
			t.Errorf("got %s", got)
		}
	})
}

// close waits for what is under way, and nothing is begun after it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := defaults()
		opt.stale.upTo = time.Hour
		h, s := handler(t, opt)
		s.set(oldAnswer)
		serve(t, h, ask("www.example.org.", dns.TypeA))
		time.Sleep(time.Minute)
		ended := false
		s.set(func(ctx context.Context, _ dns.ResponseWriter, _ *dns.Msg) (int, error) {
			<-ctx.Done()
			ended = true
			return dns.RcodeServerFailure, ctx.Err()
		})
		serve(t, h, ask("www.example.org.", dns.TypeA))
		synctest.Wait()
		h.close()
		h.close()
		if !ended {
			t.Error("close did not wait for the refresh")
		}
		serve(t, h, ask("www.example.org.", dns.TypeA))
		if n := s.calls.Load(); n != 2 {
			t.Errorf("a refresh was begun after close: %d fetches", n)
		}
	})
}

func TestWildcardMetadata(t *testing.T) {
	h, s := handler(t, defaults())
	defer h.close()
	s.set(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		metadata.SetValueFunc(ctx, wildcardLabel, func() string { return "*.example.org." })
		return oldAnswer(ctx, w, r)
	})
	for i := range 2 {
		ctx := metadata.ContextWithMetadata(t.Context())
		if _, err := h.ServeDNS(ctx, dnstest.NewRecorder(&test.ResponseWriter{}), ask("www.example.org.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if f := metadata.ValueFunc(ctx, wildcardLabel); f == nil || f() != "*.example.org." {
			t.Errorf("query %d has no wildcard", i)
		}
	}
}
