package check

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/resolverd/resolverd/registry"
)

// TestStep writes each case as results, one letter each (p w c), and expects the status
// after each of them in the same way.
func TestStep(t *testing.T) {
	letter := map[byte]registry.Status{'p': registry.Passing, 'w': registry.Warning, 'c': registry.Critical}
	for _, tc := range []struct {
		name              string
		from              byte
		success, warn     int
		fail              int
		results, expected string
	}{
		{name: "new check passes at once", from: 'c', success: 1, warn: 3, fail: 3, results: "p", expected: "p"},
		{name: "critical on the third failure", from: 'p', success: 1, warn: 3, fail: 3, results: "ccpcccc", expected: "pppppcc"},
		{name: "a success between starts the count anew", from: 'p', success: 1, warn: 3, fail: 3, results: "ccpccpccc", expected: "ppppppppc"},
		{name: "warning by failures on the way", from: 'p', success: 1, warn: 1, fail: 3, results: "cccp", expected: "wwcp"},
		{name: "failing never improves", from: 'c', success: 3, warn: 1, fail: 3, results: "pcpc", expected: "cccc"},
		{name: "two successes to come back", from: 'c', success: 2, warn: 3, fail: 3, results: "pcppp", expected: "cccpp"},
		{name: "a warning is a success on the way up", from: 'c', success: 2, warn: 3, fail: 3, results: "wpp", expected: "cpp"},
		{name: "up to warning only", from: 'c', success: 2, warn: 3, fail: 3, results: "pw", expected: "cw"},
		{name: "warning shows at once", from: 'p', success: 3, warn: 3, fail: 3, results: "wppp", expected: "wwpp"},
		{name: "warning does not count as failure", from: 'p', success: 1, warn: 3, fail: 3, results: "ccwcc", expected: "ppwww"},
		{name: "warning threshold above critical's has no effect", from: 'p', success: 1, warn: 5, fail: 2, results: "ccc", expected: "pcc"},
		{name: "registered as passing and failing", from: 'p', success: 1, warn: 1, fail: 1, results: "c", expected: "c"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := begin(&registry.Check{Status: letter[tc.from]})
			r := rules{successes: tc.success, warnings: tc.warn, failures: tc.fail}
			var got strings.Builder
			for i := range len(tc.results) {
				s = s.step(r, time.Unix(int64(i), 0), letter[tc.results[i]], "")
				got.WriteByte(s.status[0])
			}
			if got.String() != tc.expected {
				t.Errorf("results %s: statuses %s, want %s", tc.results, &got, tc.expected)
			}
		})
	}
}

func TestDue(t *testing.T) {
	at := func(sec int) time.Time { return time.Unix(1000+int64(sec), 0) }
	r := rules{successes: 1, warnings: 3, failures: 3, outputEvery: 300 * time.Second, deregisterAfter: 60 * time.Second}
	p, c := registry.Passing, registry.Critical
	fresh := begin(&registry.Check{Status: c})
	up := fresh.step(r, at(0), p, "ok").written(at(0), p, "ok")
	for _, tc := range []struct {
		name string
		s    state
		at   time.Time
		want actions
	}{
		{"nothing before the first run", fresh, at(0), actions{}},
		{"first result is told although the status is the same", fresh.step(r, at(0), c, "refused"), at(0), actions{write: true, reapAt: at(60)}},
		{"also where nothing but that it ran is new", fresh.step(r, at(0), c, ""), at(0), actions{write: true, reapAt: at(60)}},
		{"passing is told", fresh.step(r, at(0), p, "ok"), at(0), actions{write: true}},
		{"the same again is not", up.step(r, at(5), p, "ok"), at(5), actions{}},
		{"another output waits", up.step(r, at(5), p, "ok 2"), at(5), actions{writeAt: at(300)}},
		{"and has its time", up.step(r, at(5), p, "ok 2"), at(300), actions{write: true}},
		{"a failure below the threshold is nothing", up.step(r, at(5), c, "refused"), at(5), actions{}},
		{"the third is told at once", up.step(r, at(5), c, "x").step(r, at(10), c, "x").step(r, at(15), c, "x"), at(15), actions{write: true, reapAt: at(75)}},
		{"critical for too long", up.expire(at(10), "x").written(at(10), c, "x"), at(70), actions{reap: true}},
		{"a success below the threshold stops no clock", up.expire(at(10), "x").written(at(10), c, "x").step(rules{successes: 2, failures: 1}, at(20), p, "ok"), at(21), actions{reapAt: at(70)}},
		{"what somebody else wrote is put right", up.show(&registry.Check{Status: c, Ran: true}), at(20), actions{write: true}},
		{"after a restart the clock begins with the first result", begin(&registry.Check{Status: c, Ran: true}), at(20), actions{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.s.due(r, tc.at), cmp.AllowUnexported(actions{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRulesOf(t *testing.T) {
	cfg := Config{}
	cfg.defaults()
	for _, tc := range []struct {
		name string
		d    registry.CheckDefinition
		want rules
	}{
		{"defaults", registry.CheckDefinition{Kind: registry.CheckTCP},
			rules{interval: 5 * time.Second, timeout: time.Second, ttl: minInterval, successes: 1, warnings: 3, failures: 3, outputEvery: 5 * time.Minute}},
		{"warning as critical unless said", registry.CheckDefinition{Kind: registry.CheckTCP, FailuresBeforeCritical: 5},
			rules{interval: 5 * time.Second, timeout: time.Second, ttl: minInterval, successes: 1, warnings: 5, failures: 5, outputEvery: 5 * time.Minute}},
		{"bounds", registry.CheckDefinition{Kind: registry.CheckTCP, Interval: 1, Timeout: 1, DeregisterCriticalAfter: 1},
			rules{interval: minInterval, timeout: minTimeout, ttl: minInterval, successes: 1, warnings: 3, failures: 3, deregisterAfter: time.Second, outputEvery: 5 * time.Minute}},
		{"an alias follows at once", registry.CheckDefinition{Kind: registry.CheckAlias, FailuresBeforeCritical: 5},
			rules{interval: 5 * time.Second, timeout: time.Second, ttl: minInterval, successes: 1, warnings: 1, failures: 1, outputEvery: 5 * time.Minute}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, rulesOf(&tc.d, &cfg), cmp.AllowUnexported(rules{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	const interval = 5 * time.Second
	for id := range 200 {
		p := phase("n1", string(rune('a'+id)), interval)
		if p < 0 || p >= interval {
			t.Fatalf("phase %v", p)
		}
		if f := firstRun(7*time.Second, p, interval, true); f < 7*time.Second || f >= 8*time.Second {
			t.Errorf("a new check runs first at %v, want within a second of 7s", f)
		}
		if f := firstRun(7*time.Second, p, interval, false); f <= 7*time.Second || f > 12*time.Second {
			t.Errorf("a known check runs first at %v, want within an interval of 7s", f)
		}
		start := 7 * time.Second
		for range 5 {
			next := nextRun(start, start+time.Second, p, interval)
			if gap := next - start; gap < interval/2 || gap > interval*3/2 || next%interval != p {
				t.Errorf("next run %v after %v, at %v of the interval, want %v", gap, start, next%interval, p)
			}
			start = next
		}
		if next := nextRun(0, time.Minute, p, interval); next < time.Minute || next > time.Minute+2*interval {
			t.Errorf("after a run of a minute the next one is at %v", next)
		}
	}
}
