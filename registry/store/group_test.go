package store

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

// TestPick groups random requests and checks what a transaction needs, and that nobody
// overtakes one who came before on the same key.
func TestPick(t *testing.T) {
	keys := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "requests")
		number := map[*request]int{}
		var pending []*request
		for i := range n {
			r := &request{bytes: rapid.SampledFrom([]int{10, maxChangeBytes / 3}).Draw(t, "bytes")}
			if rapid.Bool().Draw(t, "own key") {
				r.writes = []string{string(rune('A' + i))}
			} else {
				r.writes = rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 2, rapid.ID[string]).Draw(t, "writes")
			}
			for _, k := range rapid.SliceOfN(rapid.SampledFrom(keys), 0, 2).Draw(t, "guards") {
				r.guards = append(r.guards, guard{key: k})
			}
			r.ops = make([]clientv3.Op, len(r.writes))
			number[r] = i
			pending = append(pending, r)
		}
		turn := map[*request]int{}
		for round := 0; len(pending) > 0; round++ {
			group, rest := pick(pending)
			if len(group) == 0 || len(group) > maxGroup || len(group)+len(rest) != len(pending) {
				t.Fatalf("%d of %d picked, %d left", len(group), len(pending), len(rest))
			}
			bytes := 0
			for i, a := range group {
				turn[a] = round
				bytes += a.bytes
				for _, b := range group[i+1:] {
					if touches(a, b) {
						t.Fatalf("%+v and %+v are in one transaction", a, b)
					}
				}
			}
			if bytes > maxChangeBytes {
				t.Fatalf("%d bytes", bytes)
			}
			pending = rest
		}
		for a, i := range number {
			for b, j := range number {
				if i < j && touches(a, b) && turn[a] >= turn[b] {
					t.Fatalf("request %d went in round %d, %d in round %d", i, turn[a], j, turn[b])
				}
			}
		}
	})
}

func touches(a, b *request) bool {
	one := func(a, b *request) bool {
		for _, k := range a.writes {
			if slices.Contains(b.writes, k) || slices.ContainsFunc(b.guards, func(g guard) bool { return g.key == k }) {
				return true
			}
		}
		return false
	}
	return one(a, b) || one(b, a)
}
