package ratelimit

import "time"

// tick is the unit of the buckets' clock.
const tick = 64 * time.Nanosecond

const (
	// clockBits is the width of a moment in a bucket: the clock comes round every 13 days.
	clockBits = 44
	clockMask = 1<<clockBits - 1
	// slack is how far behind the clock of who asked last the one who asks now may be,
	// and how much a bound may have shrunk. What is further ahead is from a former round.
	slack = int64(time.Minute / tick)
	// MaxSlip bounds Settings.Slip.
	MaxSlip = 15
)

// bucket is a token bucket as the moment when it will be full (GCRA): each response puts
// that moment off by what a token takes to come. The zero bucket is full.
type bucket struct {
	full   uint64 // ticks, of clockBits
	missed uint8  // responses refused since one slipped, of 4 bits
}

// limit is a rate in the units of a bucket.
type limit struct {
	cost  int64 // ticks until a token comes; 0 is no limit
	burst int64 // ticks that full may be ahead: a multiple of cost
}

// newLimit returns the limit of a rate in responses a second; 0 is none.
func newLimit(rate uint32, burst time.Duration) limit {
	if rate == 0 {
		return limit{}
	}
	second := int64(time.Second / tick)
	cost := (second + int64(rate) - 1) / int64(rate) // up: never more than the rate
	saved := int64(burst) * int64(rate) / int64(time.Second)
	return limit{cost: cost, burst: max(saved, 1) * cost}
}

// ahead returns the ticks that full is ahead of now, 0 for a full bucket.
func (b bucket) ahead(now uint64, l limit) int64 {
	d := int64((b.full-now)<<(64-clockBits)) >> (64 - clockBits)
	if d < 0 || d > l.burst+slack {
		return 0
	}
	return d
}

// step takes a token from b at the tick now, or says what becomes of the response
// instead, of which every slip-th slips; 0 is none.
func (l limit) step(b bucket, now uint64, slip uint8) (bucket, Verdict) {
	if l.cost == 0 {
		return b, Pass
	}
	if ahead := b.ahead(now, l) + l.cost; ahead <= l.burst {
		b.full = (now + uint64(ahead)) & clockMask
		return b, Pass
	}
	if slip == 0 {
		return b, Drop
	}
	if b.missed++; b.missed >= slip {
		b.missed = 0
		return b, Slip
	}
	return b, Drop
}
