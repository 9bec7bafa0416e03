package bulk

import (
	"math"
	"sort"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// schema is the resolution of native buckets that prometheus chooses for a factor of
	// 1.05: 16 buckets from each power of two to the next. A vector of another one is not
	// wrapped.
	schema  = 4
	doubles = 1 << schema
	// lowest and highest are the exponents of what is counted in an array, 2^-27 (7 ns) to
	// 2^17; the little outside of it is counted in a map.
	lowest, highest = -26, 17
)

// bounds are the upper bounds of the native buckets from 1/2 to 1, the last one left out.
var bounds = func() (b [doubles]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/doubles - 1)
	}
	return b
}()

// Counts are observations that are not in a Series yet. The zero Counts are none; they
// belong to one goroutine.
type Counts struct {
	n       uint64
	sum     float64
	classic []uint64 // by the vector's buckets, the last is above all of them
	native  [(highest - lowest + 1) * doubles]uint32
	rare    map[int]uint64
	zero    uint64
	upper   []float64
}

// Observe adds n observations of v, which is 0 or more.
func (c *Counts) Observe(v float64, n uint64) {
	c.n += n
	c.sum += v * float64(n)
	// As a rule the value is among the first of a few buckets.
	i := 0
	for i < len(c.upper) && v > c.upper[i] {
		i++
	}
	c.classic[i] += n
	if v <= prometheus.DefNativeHistogramZeroThreshold {
		c.zero += n
		return
	}
	frac, exp := math.Frexp(v)
	at := sort.SearchFloat64s(bounds[:], frac)
	if i := (exp-lowest)*doubles + at; i >= 0 && i < len(c.native) && uint64(c.native[i])+n < math.MaxUint32 {
		c.native[i] += uint32(n)
		return
	}
	if c.rare == nil {
		c.rare = map[int]uint64{}
	}
	c.rare[(exp-1)*doubles+at] += n
}

// move adds c to o and empties it.
func (c *Counts) move(o *Counts) {
	if c.n == 0 {
		return
	}
	o.n += c.n
	o.sum += c.sum
	o.zero += c.zero
	for i, n := range c.classic {
		o.classic[i] += n
		c.classic[i] = 0
	}
	c.each(func(key int, n uint64) {
		if o.rare == nil {
			o.rare = map[int]uint64{}
		}
		o.rare[key] += n
	})
	c.n, c.sum, c.zero = 0, 0, 0
	clear(c.native[:])
	clear(c.rare)
}

// each calls f for each native bucket that has something, in no order, maybe twice.
func (c *Counts) each(f func(key int, n uint64)) {
	for i, n := range c.native {
		if n > 0 {
			f((i/doubles+lowest-1)*doubles+i%doubles, uint64(n))
		}
	}
	for key, n := range c.rare {
		f(key, n)
	}
}
