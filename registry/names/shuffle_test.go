package names

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestShuffleByWeight: the first place goes by weight, and given the first, so does the
// second. Chi-square, with the generator's seed fixed.
func TestShuffleByWeight(t *testing.T) {
	weights := []float64{1, 2, 5, 8}
	const rounds = 40000
	r := rand.New(rand.NewPCG(7, 7))
	first := make([]float64, len(weights))
	second := make([]float64, len(weights)) // given that the last is first
	for range rounds {
		s := make([]share, len(weights))
		for i, w := range weights {
			s[i] = share{addr: netip.AddrFrom4([4]byte{byte(i)}), weight: w}
		}
		shuffle(r, s)
		at := func(n int) int { return int(s[n].addr.As4()[0]) }
		first[at(0)]++
		if at(0) == 3 {
			second[at(1)]++
		}
	}
	chi(t, "first", first, weights, 16.27) // 3 degrees of freedom, p = 0.001
	chi(t, "second", second[:3], weights[:3], 13.82)
}

func chi(t *testing.T, what string, got, weights []float64, limit float64) {
	t.Helper()
	var n, sum, x float64
	for i := range got {
		n += got[i]
		sum += weights[i]
	}
	for i := range got {
		want := n * weights[i] / sum
		x += (got[i] - want) * (got[i] - want) / want
	}
	if x > limit {
		t.Errorf("%s place: %v for weights %v: chi-square %.1f above %.2f", what, got, weights, x, limit)
	}
}

func TestShuffleFew(t *testing.T) {
	shuffle(Global, nil)
	one := []share{{addr: netip.MustParseAddr("10.0.0.1"), weight: 1}}
	shuffle(Global, one)
	if one[0].addr.String() != "10.0.0.1" {
		t.Error(one)
	}
}
