package forward

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func inStates(states ...State) []candidate {
	var all []candidate
	for _, s := range states {
		all = append(all, candidate{state: s})
	}
	return all
}

func TestOrderOfTiersAndTimes(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name   string
		policy Policy
		cands  []candidate
		want   []int
	}{
		{"fastest first, the unknown before", Fastest, []candidate{{took: 30 * ms}, {took: 10 * ms}, {}, {took: 20 * ms}}, []int{2, 1, 3, 0}},
		{"speed does not make up for doubt", Fastest, []candidate{{took: 10 * ms, state: Suspect}, {took: 30 * ms}}, []int{1, 0}},
		{"backup last", Sequential, []candidate{{backup: true}, {}, {}}, []int{1, 2, 0}},
		{"a fast backup is a backup", Fastest, []candidate{{took: 30 * ms}, {took: ms, backup: true}}, []int{0, 1}},
		{"no primary is up", Sequential, []candidate{{state: Suspect}, {state: Trial}, {backup: true}, {backup: true, state: Suspect}}, []int{2, 0, 3, 1}},
		{"primaries are down", Sequential, []candidate{{state: Down}, {backup: true}}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, order(tt.policy, tt.cands, 0, nil)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSmooth(t *testing.T) {
	var d time.Duration
	for _, step := range []struct{ sample, want time.Duration }{{80, 80}, {160, 90}, {90, 90}, {10, 80}} {
		if d = smooth(d, step.sample); d != step.want {
			t.Fatalf("after %d it is %d, want %d", step.sample, d, step.want)
		}
	}
}

func TestOrder(t *testing.T) {
	// draws gives its numbers in turn, whatever the bound.
	draws := func(n ...int) func(int) int {
		return func(int) int {
			v := n[0]
			n = n[1:]
			return v
		}
	}
	up4 := []State{Up, Up, Up, Up}
	tests := []struct {
		name   string
		policy Policy
		states []State
		turn   uint64
		intn   func(int) int
		want   []int
	}{
		{"nobody", Random, nil, 0, nil, nil},
		{"one", Random, []State{Up}, 0, nil, []int{0}},
		{"random, all swaps with the first", Random, up4, 0, draws(0, 0, 0), []int{1, 2, 3, 0}},
		{"random, no swap", Random, up4, 0, draws(3, 2, 1), []int{0, 1, 2, 3}},
		{"round robin, first turn", RoundRobin, up4, 0, nil, []int{0, 1, 2, 3}},
		{"round robin, third turn", RoundRobin, up4, 2, nil, []int{2, 0, 1, 3}},
		{"round robin, last turn", RoundRobin, up4, 7, nil, []int{3, 0, 1, 2}},
		{"sequential", Sequential, up4, 3, nil, []int{0, 1, 2, 3}},
		{"suspect goes back", Sequential, []State{Suspect, Up, Up}, 0, nil, []int{1, 2, 0}},
		{"trial after suspect", Sequential, []State{Trial, Suspect, Up}, 0, nil, []int{2, 1, 0}},
		{"down is left out", Sequential, []State{Down, Up, Down}, 0, nil, []int{1}},
		{"all down", RoundRobin, []State{Down, Down}, 1, nil, []int{}},
		{"the doubtful keep the policy's order", RoundRobin, []State{Suspect, Suspect, Up}, 1, nil, []int{2, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, order(tt.policy, inStates(tt.states...), tt.turn, tt.intn)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// Every upstream that is not down is there once, and no worse one before a better.
func TestOrderHoldsFor(t *testing.T) {
	rank := map[State]int{Up: 0, Suspect: 1, Trial: 2}
	rapid.Check(t, func(t *rapid.T) {
		states := rapid.SliceOfN(rapid.SampledFrom([]State{Up, Suspect, Trial, Down}), 0, 15).Draw(t, "states")
		policy := rapid.SampledFrom([]Policy{Random, RoundRobin, Sequential}).Draw(t, "policy")
		turn := rapid.Uint64().Draw(t, "turn")
		got := order(policy, inStates(states...), turn, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") })
		seen := map[int]bool{}
		for i, at := range got {
			if seen[at] || states[at] == Down {
				t.Fatalf("order %v of %v", got, states)
			}
			seen[at] = true
			if i > 0 && rank[states[got[i-1]]] > rank[states[at]] {
				t.Fatalf("order %v of %v: worse before better", got, states)
			}
		}
		want := 0
		for _, s := range states {
			if s != Down {
				want++
			}
		}
		if len(got) != want {
			t.Fatalf("order %v of %v: %d, want %d", got, states, len(got), want)
		}
	})
}

func TestRoundRobinIsFair(t *testing.T) {
	first := make([]int, 3)
	for turn := range uint64(300) {
		first[order(RoundRobin, inStates(Up, Up, Up), turn, nil)[0]]++
	}
	if diff := cmp.Diff([]int{100, 100, 100}, first); diff != "" {
		t.Errorf("first place (-want +got):\n%s", diff)
	}
}

func TestPolicyNames(t *testing.T) {
	for _, p := range []Policy{Random, RoundRobin, Sequential, Fastest} {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("ParsePolicy(%q) = %v, %v", p.String(), got, err)
		}
	}
	if _, err := ParsePolicy("slowest"); err == nil {
		t.Error("an unknown policy was accepted")
	}
}
