package forward

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestHedgeFindsThe95th(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h hedge
	for range 20_000 {
		h.sample(time.Duration(rng.IntN(1000)) * time.Microsecond)
	}
	if h.p95 < 880*time.Microsecond || h.p95 > 1050*time.Microsecond {
		t.Errorf("of times from 0 to 1 ms the 95th percentile is %s", h.p95)
	}
}

func TestHedgeStaysWithinItsShare(t *testing.T) {
	h := hedge{share: 0.05, p95: 20 * time.Millisecond}
	sent := 0
	for range 10_000 {
		if h.query() > 0 && h.take() {
			sent++
		}
	}
	if sent < 490 || sent > 500 {
		t.Errorf("%d hedges for 10,000 queries", sent)
	}
	quiet := hedge{share: 0.05, p95: time.Millisecond}
	for range 10_000 {
		quiet.query()
	}
	burst := 0
	for quiet.take() {
		burst++
	}
	if burst != hedgeBurst {
		t.Errorf("%d hedges at once", burst)
	}
}

func TestHedgeWaits(t *testing.T) {
	for _, tt := range []struct {
		name        string
		p95, tokens time.Duration
		want        time.Duration
	}{
		{"nothing is known", 0, 5, 0},
		{"no budget", time.Second, 0, 0},
		{"as long as the slow take", 30 * time.Millisecond, 5, 30 * time.Millisecond},
		{"not at once", time.Microsecond, 5, leastHedge},
		{"not for ever", time.Minute, 5, mostHedge},
	} {
		h := hedge{share: 0.05, tokens: float64(tt.tokens), p95: tt.p95}
		if got := h.query(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestHedge(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name    string
		scripts []script
		outcome string
		asked   string
		took    time.Duration
	}{
		{"fast enough", []script{{after: 5 * ms}, ok}, "NOERROR", "a", 5 * ms},
		{"slow", []script{{after: 500 * ms}, {after: 5 * ms}}, "NOERROR", "ab", 15 * ms},
		{"both slow, the first wins", []script{{after: 100 * ms}, {after: 500 * ms}}, "NOERROR", "ab", 100 * ms},
		{"silent", []script{silent, ok}, "NOERROR", "ab", 10 * ms},
		{"the second fails", []script{{after: 100 * ms}, broken}, "NOERROR", "ab", 100 * ms},
		{"the second fails servfail", []script{{after: 100 * ms}, servfail}, "NOERROR", "ab", 100 * ms},
		{"the first fails before", []script{broken, ok}, "NOERROR", "ab", 0},
		{"the first fails while the second is asked", []script{{after: 15 * ms, rcode: 2}, {after: 20 * ms}}, "NOERROR", "ab", 30 * ms},
		{"alone", []script{{after: 500 * ms}}, "NOERROR", "a", 500 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(o *Options) { o.Hedge = 0.05 }, tt.scripts...)
				defer b.Close()
				b.hedging.h.tokens, b.hedging.h.p95 = 1, 10*ms
				outcome, asked, took := b.ask(context.Background())
				if outcome != tt.outcome || asked != tt.asked || took != tt.took {
					t.Errorf("%s from %q after %s, want %s from %q after %s", outcome, asked, took, tt.outcome, tt.asked, tt.took)
				}
			})
		})
	}
}

// The one that is faster gets the queries; the other is looked at now and then, and gets
// them back when it has become the faster one.
func TestFastest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		b := newBench(t, func(o *Options) { o.Policy = Fastest }, script{after: 40 * ms}, script{after: 10 * ms})
		defer b.Close()
		count := func(n int) (a, b2 int) {
			for range n {
				switch _, asked, _ := b.ask(context.Background()); asked {
				case "a":
					a++
				case "b":
					b2++
				}
				time.Sleep(100 * ms)
			}
			return a, b2
		}
		if a, fast := count(100); a > 5 || a < 2 || a+fast != 100 {
			t.Errorf("%d queries to the slow one, %d to the fast", a, fast)
		}
		b.up["a"].set(script{after: ms}, ok)
		count(600)
		if a, slow := count(100); slow > 5 || slow < 1 || a+slow != 100 {
			t.Errorf("%d queries to the one that is fast now, %d to the other", a, slow)
		}
	})
}

// Backups answer while the primary one is away, and it gets the queries back.
func TestBackupAndFailBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Sources[1].Backup = true; o.Policy = Random }, ok, ok)
		defer b.Close()
		for range 20 {
			if _, asked, _ := b.ask(context.Background()); asked != "a" {
				t.Fatalf("asked %q while all is well", asked)
			}
		}
		b.up["a"].set(broken, silent)
		if out, asked, _ := b.ask(context.Background()); out != "NOERROR" || asked != "ab" {
			t.Errorf("%s from %q", out, asked)
		}
		for range 20 {
			if _, asked, _ := b.ask(context.Background()); asked != "b" {
				t.Fatalf("asked %q while the primary one is away", asked)
			}
			time.Sleep(time.Second)
		}
		b.up["a"].set(ok, ok)
		time.Sleep(2 * time.Second)
		for range 20 {
			if _, asked, _ := b.ask(context.Background()); asked != "a" {
				t.Fatalf("asked %q after the primary one came back", asked)
			}
		}
	})
}
