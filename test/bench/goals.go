package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// goal is one figure that must be reached: ours over theirs, at most limit. "N times less"
// is 1/N.
type goal struct {
	row    string
	mode   mode
	server string // ours where empty
	peer   string
	figure string // cpu, part or p99
	limit  float64
	strict bool // less than the limit, not at most
}

var goals = append([]goal{
	{row: "cached", mode: saturated, peer: "floor", figure: "cpu", limit: 1.3},
	{row: "cached", mode: saturated, peer: "coredns", figure: "cpu", limit: 1 / 3.5},
	{row: "cached", mode: saturated, peer: "unbound", figure: "cpu", limit: 1 / 1.3},
	{row: "cached", mode: saturated, peer: "dnsdist", figure: "cpu", limit: 1 / 1.3},
	{row: "cached", mode: saturated, peer: "bind", figure: "cpu", limit: 1, strict: true},
	{row: "cached", mode: saturated, peer: "knot-resolver", figure: "cpu", limit: 1, strict: true},
	{row: "cached", mode: byDnsperf, peer: "coredns", figure: "cpu", limit: 1 / 2.4},
	{row: "cached", mode: byDnsperf, peer: "unbound", figure: "cpu", limit: 1},
	{row: "cached", mode: byDnsperf, peer: "dnsdist", figure: "cpu", limit: 1},
	{row: "cached", mode: paced, peer: "unbound", figure: "cpu", limit: 1},
	{row: "cached", mode: paced, peer: "coredns", figure: "cpu", limit: 1.0 / 3},
	{row: "cached", mode: half, peer: "unbound", figure: "p99", limit: 1},
	{row: "cached", mode: even, peer: "unbound", figure: "p99", limit: 1},
	{row: "registry-a", mode: saturated, peer: "floor", figure: "cpu", limit: 1.3},
	{row: "registry-a", mode: saturated, peer: "consul", figure: "cpu", limit: 1.0 / 12},
	{row: "registry-a", mode: byDnsperf, peer: "consul", figure: "cpu", limit: 1.0 / 12},
	{row: "registry-srv", mode: saturated, peer: "floor", figure: "cpu", limit: 1.3},
	{row: "registry-srv", mode: saturated, peer: "consul", figure: "cpu", limit: 1.0 / 12},
	{row: "registry-srv", mode: byDnsperf, peer: "consul", figure: "cpu", limit: 1.0 / 12},
	{row: "forwarded", mode: saturated, peer: "dnsdist", figure: "cpu", limit: 1},
	{row: "forwarded", mode: saturated, peer: "coredns", figure: "cpu", limit: 1.0 / 3},
	{row: "forwarded", mode: saturated, peer: "unbound", figure: "cpu", limit: 1, strict: true},
	{row: "forwarded", mode: saturated, peer: "dnsmasq", figure: "cpu", limit: 1, strict: true},
	{row: "forwarded", mode: byDnsperf, peer: "dnsdist", figure: "cpu", limit: 1},
	{row: "forwarded", mode: byDnsperf, peer: "coredns", figure: "cpu", limit: 1.0 / 3},
}, churnGoals()...)

// churnGoals hold the process that answers to what it needs without changes: the agent
// that writes them to disk is another one, and shown in the tables.
func churnGoals() []goal {
	var l []goal
	for _, row := range []string{"cached", "registry-a", "registry-srv", "forwarded"} {
		for _, m := range []mode{saturated, byDnsperf, paced} {
			l = append(l, goal{row: row, mode: m, server: oursChurn, peer: ours, figure: "part", limit: 1.1})
		}
		for _, m := range []mode{half, even} {
			l = append(l, goal{row: row, mode: m, server: oursChurn, peer: ours, figure: "p99", limit: 1.1})
		}
	}
	return l
}

// compared returns the servers whose p99 goals hold against one another.
func compared(row string) (names []string) {
	for _, g := range goals {
		if g.row == row && g.mode == even {
			names = append(names, cmp.Or(g.server, ours), g.peer)
		}
	}
	return names
}

// evenRate is half of the lowest top rate of those compared, beside mode half, where the
// faster server is asked more.
func evenRate(row string, top map[string]float64) int {
	lowest := math.Inf(1)
	for _, name := range compared(row) {
		if rate := top[name]; rate > 0 {
			lowest = min(lowest, rate)
		}
	}
	if math.IsInf(lowest, 1) {
		return pacedRate // none of them runs
	}
	return int(lowest / 2)
}

// entryGoal is the most octets of a cached answer beyond its packet.
const entryGoal = 300

// againGoal is the most seconds from a start with a snapshot to the first cached answer.
const againGoal = 1.0

// outcome is a goal beside what was measured.
type outcome struct {
	text   string
	goal   string
	got    string
	remark string
	met    bool
	void   bool // the floor does not count, so it is neither met nor missed
}

func (o outcome) verdict() string {
	switch {
	case o.void:
		return "not counted"
	case o.met:
		return "met"
	}
	return "**missed**"
}

func (s sample) figure(name string) float64 {
	switch name {
	case "part":
		return s.part
	case "p99":
		return s.p99
	}
	return s.cpu
}

// judge compares what was measured with the goals; those that were not measured are left
// out.
func judge(tables []table, memories []memory) []outcome {
	var l []outcome
	share := shareOfFloor(tables)
	for _, g := range goals {
		for _, t := range tables {
			if t.row != g.row || t.mode != g.mode {
				continue
			}
			if o, ok := g.judge(t, share); ok {
				l = append(l, o)
			}
		}
	}
	for _, m := range memories {
		if m.name == ours {
			l = append(l, outcome{
				text: "memory: octets an entry beyond the packet", goal: fmt.Sprint("<= ", entryGoal),
				got: fmt.Sprintf("%.0f", m.entry), met: m.entry <= entryGoal && m.hits >= 99,
				remark: fmt.Sprintf("%.1f %% of the names were still cached", m.hits),
			})
			l = append(l, outcome{
				text: "memory: seconds from a start with a snapshot to the first cached answer", goal: fmt.Sprint("<= ", againGoal),
				got: fmt.Sprintf("%.2f", m.again), met: m.again > 0 && m.again <= againGoal,
			})
		}
	}
	return l
}

// judge takes the row's table and the floor's share of unbound's CPU in this run, 0 where
// that is not known.
func (g goal) judge(t table, share float64) (outcome, bool) {
	server := g.server
	if server == "" {
		server = ours
	}
	a, ok := t.find(server)
	b, ok2 := t.find(g.peer)
	x, y := a.figure(g.figure), b.figure(g.figure)
	if !ok || !ok2 || x <= 0 || y <= 0 {
		return outcome{}, false
	}
	r, sign := x/y, "<="
	o := outcome{met: r <= g.limit}
	if g.strict {
		o.met, sign = r < g.limit, "<"
	}
	what := map[string]string{"cpu": "CPU", "part": "the answerer's CPU", "p99": "p99"}[g.figure]
	o.text = fmt.Sprintf("%s, %s: %s of %s to %s", t.row, t.mode.title(), what, server, g.peer)
	o.goal, o.got = fmt.Sprintf("%s %.2f", sign, g.limit), fmt.Sprintf("%.2f", r)
	if g.limit < 1 {
		o.remark = fmt.Sprintf("%.1f times less, of %.1f", 1/r, 1/g.limit)
	}
	if g.peer == "floor" {
		if o.remark = floorRemark(share); share == 0 || share > floorShare {
			o.void = true
		}
	}
	for _, s := range []sample{a, b} {
		if s.wrong > 1 || s.lost > 1 {
			o.met = false
			o.remark = strings.TrimPrefix(o.remark+"; more than 1 % lost or wrong", "; ")
			break
		}
	}
	return o, true
}

func goalsMarkdown(l []outcome) string {
	if len(l) == 0 {
		return ""
	}
	var b strings.Builder
	met, counted := 0, 0
	b.WriteString("| what must be reached | goal | measured | |\n|---|---|---|---|\n")
	for _, o := range l {
		if !o.void {
			counted++
			if o.met {
				met++
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", o.text, o.goal, o.got,
			strings.Join(append([]string{o.verdict()}, nonEmpty(o.remark)...), "; "))
	}
	return fmt.Sprintf("### Goals: %d of %d met\n\n", met, counted) + b.String()
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// floorShare is the most of unbound's CPU that the floor may use to be one: on a machine
// where it comes closer, something else was measured.
const floorShare = 0.65

// shareOfFloor is the floor's CPU over unbound's in row cached at saturating load; 0 where
// that was not measured.
func shareOfFloor(tables []table) float64 {
	for _, t := range tables {
		if t.row != "cached" || t.mode != saturated {
			continue
		}
		f, ok := t.find("floor")
		u, ok2 := t.find("unbound")
		if ok && ok2 && u.cpu > 0 {
			return f.cpu / u.cpu
		}
	}
	return 0
}

func floorRemark(share float64) string {
	switch {
	case share == 0:
		return "whether the floor counts is not known without unbound in row cached"
	case share > floorShare:
		return fmt.Sprintf("the floor uses %.2f of unbound's CPU and does not count (%.2f at most)", share, floorShare)
	}
	return fmt.Sprintf("the floor uses %.2f of unbound's CPU and counts", share)
}
