package names

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Rand yields numbers from 0 to 1, 1 not included.
type Rand interface{ Float64() float64 }

// Global is the runtime's generator: safe for concurrent use, not seeded by anybody.
var Global Rand = global{}

type global struct{}

func (global) Float64() float64 { return rand.Float64() }

// share is an address with its share of the load.
type share struct {
	addr   netip.Addr
	weight float64 // above 0
	key    float64
}

// shuffle orders the addresses at random, without replacement: each place in turn goes
// to one of those left, with a chance in proportion to its weight. (The addresses are
// sorted by exponential variates with their weights as rates, after Efraimidis and
// Spirakis, 2006.)
func shuffle(r Rand, s []share) {
	if len(s) < 2 {
		return
	}
	for i := range s {
		s[i].key = -math.Log1p(-r.Float64()) / s[i].weight
	}
	slices.SortFunc(s, func(a, b share) int {
		return cmp.Or(cmp.Compare(a.key, b.key), a.addr.Compare(b.addr))
	})
}
