package forward

import "fmt"

// Policy says in which order healthy upstreams are tried.
type Policy uint8

// The policies of the forward directive.
const (
	Random     Policy = iota // a new permutation for each query
	RoundRobin               // each upstream in turn is first; the others keep their order
	Sequential               // as written
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
	}
	return "random"
}

// order returns the indexes of the upstreams to ask, best first, given their states.
// turn counts queries (round robin); intn draws uniformly from [0,n) (random). The
// doubtful come after the good ones, in the policy's order both; those that are down
// are left out, so the result may be empty.
func order(p Policy, states []State, turn uint64, intn func(int) int) []int {
	n := len(states)
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
	}
	out := all[n:n]
	for _, want := range [...]State{Up, Suspect, Trial} {
		for _, i := range all {
			if states[i] == want {
				out = append(out, i)
			}
		}
	}
	return out
}
