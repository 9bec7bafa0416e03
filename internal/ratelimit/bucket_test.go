package ratelimit

import (
	"testing"
	"time"
)

// at returns the tick of a duration.
func at(d time.Duration) uint64 { return uint64(int64(d/tick)) & clockMask }

func TestStep(t *testing.T) {
	type ask struct {
		at   time.Duration
		want Verdict
	}
	for name, tc := range map[string]struct {
		rate  uint32
		burst time.Duration
		slip  uint8
		asks  []ask
	}{
		"no limit": {0, time.Second, 2, []ask{{0, Pass}, {0, Pass}, {0, Pass}}},
		"a burst of a second, every second refusal slips": {
			3, time.Second, 2,
			[]ask{{0, Pass}, {0, Pass}, {0, Pass}, {0, Drop}, {0, Slip}, {0, Drop}, {0, Slip}},
		},
		"no slip":    {1, time.Second, 0, []ask{{0, Pass}, {0, Drop}, {0, Drop}, {0, Drop}}},
		"slip all":   {1, time.Second, 1, []ask{{0, Pass}, {0, Slip}, {0, Slip}}},
		"each third": {1, time.Second, 3, []ask{{0, Pass}, {0, Drop}, {0, Drop}, {0, Slip}, {0, Drop}}},
		"a token comes when its time is over": {
			10, time.Second / 10, 0,
			[]ask{{0, Pass}, {99 * time.Millisecond, Drop}, {101 * time.Millisecond, Pass}, {102 * time.Millisecond, Drop}},
		},
		"without a burst still one": {5, 0, 0, []ask{{0, Pass}, {0, Drop}, {201 * time.Millisecond, Pass}}},
		"nothing is saved beyond the burst": {
			2, time.Second, 0,
			[]ask{{0, Pass}, {time.Hour, Pass}, {time.Hour, Pass}, {time.Hour, Drop}},
		},
		"refusals cost nothing": {
			1, time.Second, 0,
			[]ask{{0, Pass}, {time.Second / 2, Drop}, {time.Second / 2, Drop}, {1001 * time.Millisecond, Pass}},
		},
		"a clock that lags is limited all the same": {
			1, time.Second, 0,
			[]ask{{time.Second, Pass}, {900 * time.Millisecond, Drop}, {0, Drop}},
		},
		"the clock comes round": {
			1, time.Second, 0,
			[]ask{{13*24*time.Hour + 59*time.Minute, Pass}, {13*24*time.Hour + 59*time.Minute, Drop}, {13*24*time.Hour + 61*time.Minute, Pass}},
		},
		"a moment of a former round is none": {
			1, time.Second, 0,
			[]ask{{8 * 24 * time.Hour, Pass}, {16 * 24 * time.Hour, Pass}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, b := newLimit(tc.rate, tc.burst), bucket{}
			for i, a := range tc.asks {
				var v Verdict
				if b, v = l.step(b, at(a.at), tc.slip); v != a.want {
					t.Fatalf("%d: %v, want %v", i, v, a.want)
				}
				if got := unpack(b.pack(7)); got != b {
					t.Fatalf("%+v is packed as %+v", b, got)
				}
			}
		})
	}
}
