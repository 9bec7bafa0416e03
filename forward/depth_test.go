package forward

import (
	"testing"
	"time"
)

func TestDepth(t *testing.T) {
	now := time.Now()
	var d depth
	replies := func(from, to int) {
		for n := from; n <= to; n++ {
			d = d.replied(n, now)
		}
	}
	want := func(what string, n int) {
		t.Helper()
		if d.room() != n {
			t.Errorf("%s: room for %d, want %d", what, d.room(), n)
		}
	}
	want("at first", 1)
	for range 10 {
		replies(1, 1)
	}
	want("one reply a connection", 1)
	replies(2, 3)
	want("a connection that is kept", 4)
	replies(4, 100)
	want("after many", maxDepth)
	d = d.broke(1, now)
	want("closed while one waited", maxDepth)
	d = d.broke(2, now)
	want("closed while two waited", 8)
	replies(2, 100)
	want("not trusted for a while", 8)
	now = now.Add(depthPause)
	replies(2, 2)
	want("trusted again", 16)
	for range 5 {
		d = d.broke(5, now)
	}
	want("broken again and again", 1)
}
