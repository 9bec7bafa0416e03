package forward

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Policy says in which order healthy upstreams are tried.
type Policy uint8

// The policies of the forward directive.
const (
	Random     Policy = iota // a new permutation for each query
	RoundRobin               // each upstream in turn is first; the others keep their order
	Sequential               // as written
	Fastest                  // by the time that replies took, the unknown first
)

// ParsePolicy returns the policy that the Corefile calls s.
func ParsePolicy(s string) (Policy, error) {
	switch s {
	case "random":
		return Random, nil
	case "round_robin":
		return RoundRobin, nil
	case "sequential":
		return Sequential, nil
	case "fastest":
		return Fastest, nil
	}
	return 0, fmt.Errorf("unknown policy '%s'", s)
}

// String returns the policy's name in the Corefile.
func (p Policy) String() string {
	switch p {
	case RoundRobin:
		return "round_robin"
	case Sequential:
		return "sequential"
	case Fastest:
		return "fastest"
	}
	return "random"
}

// candidate is one upstream in the eyes of [order].
type candidate struct {
	state  State
	backup bool          // asked when no primary one is up
	took   time.Duration // how long its replies take of late, 0 if unknown (fastest)
}

// order returns the indexes of the upstreams to ask, best first. turn counts queries
// (round robin); intn draws uniformly from [0,n) (random). Those that are up come first,
// primary ones before backups, then the doubtful, in the policy's order all; those that
// are down are left out, so the result may be empty.
func order(p Policy, cands []candidate, turn uint64, intn func(int) int) []int {
	n := len(cands)
	if n == 0 {
		return nil
	}
	all := make([]int, n, 2*n)
	for i := range all {
		all[i] = i
	}
	switch p {
	case Random:
		for i := n - 1; i > 0; i-- {
			j := intn(i + 1)
			all[i], all[j] = all[j], all[i]
		}
	case RoundRobin:
		first := int(turn % uint64(n))
		copy(all[1:first+1], all[:first])
		all[0] = first
	case Fastest:
		slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(cands[a].took, cands[b].took) })
	}
	out := all[n:n]
	for _, want := range [...]State{Up, Suspect, Trial} {
		for _, backup := range [...]bool{false, true} {
			for _, i := range all {
				if cands[i].state == want && cands[i].backup == backup {
					out = append(out, i)
				}
			}
		}
	}
	return out
}

// smooth returns the average of reply times after a sample: each new one counts an
// eighth. old is 0 before the first.
func smooth(old, sample time.Duration) time.Duration {
	if old == 0 {
		return max(sample, 1)
	}
	return max(old+(sample-old)/8, 1)
}

// lookEvery is how often an upstream that is not the fastest is asked first all the
// same, so that it is known when it is faster again.
const lookEvery = 5 * time.Second
