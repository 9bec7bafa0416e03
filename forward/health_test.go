package forward

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

func TestHealthStep(t *testing.T) {
	two := rule{maxFails: 2}
	counting := rule{maxFails: 2, countQueries: true}
	tests := []struct {
		name   string
		from   health
		rule   rule
		events []event
		want   health
		probe  bool
	}{
		{"an answer changes nothing", health{}, two, []event{answered}, health{}, false},
		{"one failure raises suspicion and a probe", health{}, two, []event{failed}, health{Suspect, 0}, true},
		{"failures alone do not bring it down", health{}, two, []event{failed, failed, failed, failed}, health{Suspect, 0}, true},
		{"a good probe clears", health{}, two, []event{failed, probeGood}, health{}, false},
		{"an answer clears", health{}, two, []event{failed, probeBad, answered}, health{}, false},
		{"as many failed probes as are borne", health{}, two, []event{failed, probeBad, probeBad}, health{Suspect, 2}, true},
		{"one more", health{}, two, []event{failed, probeBad, probeBad, probeBad}, health{Down, 3}, true},
		{"the count ends there", health{Down, 3}, two, []event{probeBad, probeBad}, health{Down, 3}, true},
		{"down, then a good probe", health{Down, 3}, two, []event{probeGood}, health{}, false},
		{"down, asked in need, answered", health{Down, 3}, two, []event{answered}, health{}, false},
		{"down stays down on failure", health{Down, 3}, two, []event{failed}, health{Down, 3}, true},
		{"outdone by another", health{}, two, []event{outdone}, health{Suspect, 0}, true},
		{"outdone while down", health{Down, 3}, two, []event{outdone}, health{Down, 3}, true},
		{"an unsure probe gives a trial", health{Down, 3}, two, []event{probeUnsure}, health{Trial, 3}, true},
		{"unsure at once", health{}, two, []event{failed, probeUnsure}, health{Trial, 0}, true},
		{"trial passed", health{Trial, 3}, two, []event{answered}, health{}, false},
		{"trial failed", health{Trial, 0}, two, []event{failed}, health{Down, 0}, true},
		{"trial refused", health{Trial, 3}, two, []event{outdone}, health{Down, 3}, true},
		{"queries count", health{}, counting, []event{failed, failed, failed}, health{Down, 3}, true},
		{"queries count up to the bound", health{}, counting, []event{failed, failed}, health{Suspect, 2}, true},
		{"queries and probes count together", health{}, counting, []event{failed, probeBad, failed}, health{Down, 3}, true},
		{"no health", health{}, rule{}, []event{failed, failed, probeBad, outdone}, health{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, probe := tt.from, false
			for _, ev := range tt.events {
				h, probe = h.step(ev, tt.rule)
			}
			if diff := cmp.Diff(tt.want, h, cmp.AllowUnexported(health{})); diff != "" || probe != tt.probe {
				t.Errorf("probe %t, want %t; health (-want +got):\n%s", probe, tt.probe, diff)
			}
		})
	}
}

// Whatever happens: it is probed exactly while it is not up, an answer always heals, and
// the count is bounded.
func TestHealthHoldsFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rule{maxFails: rapid.Uint32Range(0, 4).Draw(t, "max"), countQueries: rapid.Bool().Draw(t, "count")}
		var h health
		for _, ev := range rapid.SliceOfN(rapid.SampledFrom([]event{answered, failed, outdone, probeGood, probeBad, probeUnsure}), 1, 40).Draw(t, "events") {
			var probe bool
			h, probe = h.step(ev, r)
			if probe != (h.state != Up) {
				t.Fatalf("after %d: state %s, probe %t", ev, h.state, probe)
			}
			if (ev == answered || ev == probeGood) && h != (health{}) {
				t.Fatalf("after %d: %+v", ev, h)
			}
			if h.fails > r.maxFails+1 {
				t.Fatalf("after %d: %d fails with %d borne", ev, h.fails, r.maxFails)
			}
		}
	})
}

func TestProbeVerdict(t *testing.T) {
	tests := []struct {
		rcode int
		want  event
	}{
		{dns.RcodeSuccess, probeGood},
		{dns.RcodeNameError, probeGood},
		{dns.RcodeServerFailure, probeBad},
		{dns.RcodeRefused, probeUnsure},
		{dns.RcodeNotAuth, probeUnsure},
		{dns.RcodeNotImplemented, probeUnsure},
	}
	for _, tt := range tests {
		if got := probeVerdict(tt.rcode, nil); got != tt.want {
			t.Errorf("%s: %d, want %d", dns.RcodeToString[tt.rcode], got, tt.want)
		}
	}
	if got := probeVerdict(0, ErrNoUpstream); got != probeBad {
		t.Errorf("error: %d, want %d", got, probeBad)
	}
}
