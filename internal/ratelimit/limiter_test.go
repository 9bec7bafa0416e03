package ratelimit

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func limiter(change func(*Settings)) *Limiter {
	s := Default()
	if change != nil {
		change(&s)
	}
	return New(s, NewTable(), &Counts{})
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// passed asks n times at one moment and returns how often the response passed.
func passed(l *Limiter, client string, class Class, n int, now time.Time) int {
	got := 0
	for range n {
		if l.Limit(addr(client), class, now) == Pass {
			got++
		}
	}
	return got
}

func TestWhoSharesABucket(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		first, second string
		class         Class
		change        func(*Settings)
		want          int // of ten more for second, after ten for first at ten a second
	}{
		"the same address":              {"192.0.2.1", "192.0.2.1", Answer, nil, 0},
		"one /24":                       {"192.0.2.1", "192.0.2.254", Answer, nil, 0},
		"another /24":                   {"192.0.2.1", "192.0.3.1", Answer, nil, 10},
		"a longer prefix":               {"192.0.2.1", "192.0.2.254", Answer, func(s *Settings) { s.Bits4 = 32 }, 10},
		"a shorter one":                 {"192.0.2.1", "192.9.3.1", Answer, func(s *Settings) { s.Bits4 = 8 }, 0},
		"one /56":                       {"2001:db8::1", "2001:db8:0:ff:1::", Answer, nil, 0},
		"another /56":                   {"2001:db8::1", "2001:db8:0:100::", Answer, nil, 10},
		"a /64":                         {"2001:db8::1", "2001:db8:0:1::", Answer, func(s *Settings) { s.Bits6 = 64 }, 10},
		"mapped":                        {"192.0.2.1", "::ffff:192.0.2.9", Answer, nil, 0},
		"an interface says nothing":     {"fe80::1%lo", "fe80::2", Answer, nil, 0},
		"another class":                 {"192.0.2.1", "192.0.2.1", Error, nil, 10},
		"families are not mixed up":     {"0.0.0.1", "::", Answer, nil, 10},
		"exempt":                        {"192.0.2.1", "192.0.2.1", Answer, func(s *Settings) { s.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, 10},
		"exempt is another":             {"192.0.2.1", "192.0.2.1", Answer, func(s *Settings) { s.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")} }, 0},
		"loopback":                      {"127.0.0.1", "127.0.0.1", Answer, nil, 10},
		"loopback, IPv6":                {"::1", "::1", Answer, nil, 10},
		"loopback as others":            {"127.0.0.1", "127.0.0.1", Answer, func(s *Settings) { s.Loopback = true }, 0},
		"loopback as others but exempt": {"127.0.0.1", "127.0.0.1", Answer, func(s *Settings) { s.Loopback, s.Exempt = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := limiter(func(s *Settings) {
				s.Rates = [Classes]uint32{10, 10, 10}
				if tc.change != nil {
					tc.change(s)
				}
			})
			if n := passed(l, tc.first, Answer, 10, now); n != 10 {
				t.Errorf("%d of the first ten passed", n)
			}
			if n := passed(l, tc.second, tc.class, 10, now); n != tc.want {
				t.Errorf("%d passed, want %d", n, tc.want)
			}
		})
	}
	if !limiter(nil).Exempt(netip.Addr{}) {
		t.Error("nobody is limited")
	}
}

func TestClassOf(t *testing.T) {
	for _, tc := range []struct {
		rcode, answers int
		want           Class
	}{{0, 1, Answer}, {0, 0, Denial}, {3, 0, Denial}, {3, 1, Denial}, {2, 0, Error}, {5, 0, Error}, {23, 0, Error}, {1, 3, Error}} {
		if got := ClassOf(tc.rcode, tc.answers); got != tc.want {
			t.Errorf("rcode %d with %d: %s", tc.rcode, tc.answers, got)
		}
	}
}

func TestCounts(t *testing.T) {
	l, now := limiter(func(s *Settings) { s.Rates[Denial] = 2 }), time.Now()
	passed(l, "192.0.2.1", Denial, 7, now)
	passed(l, "127.0.0.1", Denial, 3, now)
	l.Count(Error, BadCookie)
	for r, want := range map[Result]uint64{Passed: 2, Dropped: 3, Slipped: 2, Exempted: 3, Known: 0} {
		if got := l.counts.Of(Denial, r); got != want {
			t.Errorf("%s: %d, want %d", r, got, want)
		}
	}
	if l.counts.Of(Error, BadCookie) != 1 {
		t.Error("not counted")
	}
	for c := range Classes {
		for r := range Results {
			if c.String() == "" || r.String() == "" {
				t.Errorf("%d %d has no name", c, r)
			}
		}
	}
}

// TestNeverMore compares with the promise: in no window of any sequence a prefix gets
// more than the rate times the window, and the burst.
func TestNeverMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Uint32Range(1, 2000).Draw(t, "rate")
		burst := time.Duration(rapid.IntRange(0, 3000).Draw(t, "burst")) * time.Millisecond
		l := limiter(func(s *Settings) { s.Rates[Answer], s.Burst = rate, burst })
		now := time.Now()
		given := map[int][]time.Time{}
		asked := 0
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "wait")))
			},
			"ask": func(t *rapid.T) {
				who := rapid.IntRange(0, 2).Draw(t, "who")
				for range rapid.IntRange(1, 300).Draw(t, "times") {
					asked++
					client := netip.AddrFrom4([4]byte{192, 0, byte(who), byte(asked)})
					if l.Limit(client, Answer, now) == Pass {
						given[who] = append(given[who], now)
					}
				}
			},
			"": func(t *rapid.T) {
				most := max(float64(rate)*burst.Seconds(), 1)
				for who, all := range given {
					if len(all) > 2000 {
						all = all[len(all)-2000:]
					}
					for i := range all {
						n := float64(len(all) - i)
						if may := float64(rate)*now.Sub(all[i]).Seconds() + most; n > may+1e-6*n {
							t.Fatalf("prefix %d got %v in %v, may have %v", who, n, now.Sub(all[i]), may)
						}
					}
				}
			},
		})
	})
}

// TestQuietGetsItsRate says the other half: who stays below the rate is never refused.
func TestQuietGetsItsRate(t *testing.T) {
	for _, rate := range []uint32{1, 7, 50, 200, 3000, MaxRate} {
		l, now := limiter(func(s *Settings) { s.Rates[Answer], s.Burst = rate, 0 }), time.Now()
		// One in a hundred below, for a token's time is rounded up.
		step := time.Duration(float64(time.Second) / float64(rate) * 1.01)
		for i := range 1000 {
			if l.Limit(addr("192.0.2.1"), Answer, now) != Pass {
				t.Fatalf("%d a second: %d is refused", rate, i)
			}
			now = now.Add(step)
		}
	}
}

// spoofed returns one of a million prefixes.
func spoofed(i int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i%(1<<20))<<8|1<<28)
	return netip.AddrFrom4(a)
}

// TestFloodOfPrefixes sends from a million prefixes. A client among them gets its rate,
// and one that was at its limit still is.
func TestFloodOfPrefixes(t *testing.T) {
	l, now := limiter(func(s *Settings) { s.Rates[Answer] = 50 }), time.Now()
	if n := passed(l, "198.51.100.1", Answer, 60, now); n != 50 {
		t.Fatalf("%d of 60", n)
	}
	refused, loud := 0, 0
	for i := range 1 << 20 {
		if i%1000 == 0 { // 100,000 a second
			now = now.Add(10 * time.Millisecond)
		}
		l.Limit(spoofed(i), Answer, now)
		if i%4000 == 0 && l.Limit(addr("203.0.113.1"), Answer, now) != Pass { // 25 a second
			refused++
		}
		if i%100 == 0 && l.Limit(addr("198.51.100.1"), Answer, now) == Pass { // 1,000 a second
			loud++
		}
	}
	if refused > 0 {
		t.Errorf("%d of 262 to who asks little are refused", refused)
	}
	if may := int(50*10.5) + 5; loud > may {
		t.Errorf("%d to who asks much in 10.5 s, at most %d are due", loud, may)
	}
}

// TestMemory shows that no flood grows anything.
func TestMemory(t *testing.T) {
	l, now := limiter(nil), time.Now()
	i := 0
	if n := testing.AllocsPerRun(100_000, func() {
		i++
		l.Limit(spoofed(i), Class(i)%Classes, now.Add(time.Duration(i)*time.Microsecond))
	}); n != 0 {
		t.Errorf("%v allocations for each response", n)
	}
	v6 := addr("2001:db8::1")
	if n := testing.AllocsPerRun(1000, func() { l.Limit(v6, Answer, now) }); n != 0 {
		t.Errorf("%v allocations over IPv6", n)
	}
}

// TestConcurrent has many ask for one prefix at one moment: together they get what one
// would.
func TestConcurrent(t *testing.T) {
	l, now := limiter(func(s *Settings) { s.Rates[Answer] = 1000 }), time.Now()
	var wg sync.WaitGroup
	var all atomic.Int64
	for range 8 {
		wg.Go(func() { all.Add(int64(passed(l, "192.0.2.1", Answer, 2000, now))) })
	}
	wg.Wait()
	if n := all.Load(); n != 1000 {
		t.Errorf("%d passed, want 1000", n)
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	bad := Settings{
		Rates: [Classes]uint32{MaxRate + 1}, Burst: time.Hour, Slip: 16, Bits4: 33, Bits6: 65,
		Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")},
	}
	errs, ok := bad.Validate().(interface{ Unwrap() []error })
	if !ok || len(errs.Unwrap()) != 6 {
		t.Errorf("%v", bad.Validate())
	}
}

func BenchmarkLimit(b *testing.B) {
	for name, spread := range map[string]int{"one prefix": 1, "a million": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			l, now := limiter(nil), time.Now()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Limit(spoofed(i%spread), Answer, now)
			}
		})
	}
}
