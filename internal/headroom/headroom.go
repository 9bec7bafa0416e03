// Package headroom bounds what the garbage collector leaves unused.
//
// Go lets the heap grow to twice what lives before it collects. A large cache lives long
// and is not garbage: the same again would lie idle beside it. So the share is lowered as
// what lives grows, to no less than an eighth: what is allocated per query is little, and a
// collection costs in proportion to what lives.
package headroom

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// room is how much the heap may grow between collections, in octets, where that is
	// between the least share and all of what lives.
	room = 96 << 20
	// least and most bound the share in per cent of what lives.
	least, most = 12, 100
	// every is how often the share is looked at.
	every = time.Second
)

// percent returns the collector's share for a heap of which so much lives.
func percent(live uint64) int {
	if live == 0 {
		return most
	}
	return int(min(max(100*room/live, least), most))
}

// Keep sets the share until the context ends. It does nothing where GOGC is set: whoever
// set it knows.
func Keep(ctx context.Context) {
	was := debug.SetGCPercent(most)
	if was != most {
		debug.SetGCPercent(was)
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for set := most; ; {
		select {
		case <-ctx.Done():
			debug.SetGCPercent(most)
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if p := percent(live[0].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
	}
}
