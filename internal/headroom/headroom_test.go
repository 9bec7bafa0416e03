package headroom

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {1 << 20, 100}, {96 << 20, 100}, {128 << 20, 75}, {256 << 20, 37}, {1 << 30, 12}, {1 << 40, 12}} {
		if got := percent(c.live); got != c.want {
			t.Errorf("%d octets: %d %%, want %d", c.live, got, c.want)
		}
	}
}

// TestKeep fills the heap and sees that less than twice of it is taken.
func TestKeep(t *testing.T) {
	if debug.SetGCPercent(100) != 100 {
		t.Fatal("the test needs Go's default")
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { Keep(ctx) })
	big := make([][]byte, 0, 256)
	for range 256 {
		big = append(big, make([]byte, 1<<20))
	}
	runtime.GC()
	for end := time.Now().Add(10 * time.Second); ; {
		p := debug.SetGCPercent(-1) // which returns what it was
		debug.SetGCPercent(p)
		if p <= 45 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d %% of 256 MiB", p)
		}
		time.Sleep(50 * time.Millisecond)
	}
	runtime.KeepAlive(big)
	stop()
	wg.Wait()
	if p := debug.SetGCPercent(100); p != 100 {
		t.Errorf("%d %% are left behind", p)
	}
}
