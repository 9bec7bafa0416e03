package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []float64
		want float64
	}{
		{"none", nil, 0},
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 2, 9}, 3},
	} {
		before := append([]float64(nil), c.in...)
		if got := median(c.in); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for i := range before {
			if before[i] != c.in[i] {
				t.Errorf("%s: the input was changed", c.name)
			}
		}
	}
	m := medians([]sample{{cpu: 1, p99: 30}, {cpu: 5, p99: 10}, {cpu: 2, p99: 20}})
	if m.cpu != 2 || m.p99 != 20 {
		t.Errorf("each figure has a median of its own: %+v", m)
	}
}

func TestSample(t *testing.T) {
	r := reply{Sent: 2000, Answered: 1000, Lost: 1000, Seconds: 0.5, RCodes: map[string]int64{"0": 990}}
	s := newSample(r, usage{user: time.Second}, usage{user: time.Second + 2*time.Millisecond, system: 3 * time.Millisecond, rss: 5 << 20})
	if s.cpu != 5 || s.user != 2 || s.rate != 2000 || s.lost != 50 || s.wrong != 1 || s.rss != 5 {
		t.Errorf("got %+v", s)
	}
}

func cached(floor, unbound, own float64) table {
	return table{row: "cached", title: "Cached", mode: saturated, lines: []line{
		{ours, sample{cpu: own, part: own}}, {"floor", sample{cpu: floor}}, {"unbound", sample{cpu: unbound}},
	}}
}

func find(t *testing.T, l []outcome, text string) outcome {
	t.Helper()
	for _, o := range l {
		if strings.Contains(o.text, text) {
			return o
		}
	}
	t.Fatalf("no goal %q in %v", text, l)
	return outcome{}
}

func TestJudge(t *testing.T) {
	l := judge([]table{cached(3, 6, 3.9)}, nil)
	if o := find(t, l, "to floor"); o.verdict() != "met" || o.got != "1.30" {
		t.Errorf("1.3 times the floor is enough: %+v", o)
	}
	if o := find(t, l, "to unbound"); o.verdict() != "met" {
		t.Errorf("3.9 of 6 is 1.5 times less: %+v", o)
	}
	l = judge([]table{cached(3, 6, 5)}, nil)
	if o := find(t, l, "to unbound"); o.verdict() != "**missed**" {
		t.Errorf("5 of 6 is too much: %+v", o)
	}
	l = judge([]table{cached(4, 6, 4)}, nil)
	if o := find(t, l, "to floor"); o.verdict() != "not counted" {
		t.Errorf("a floor of 0.67 of unbound does not count: %+v", o)
	}
	bad := cached(3, 6, 3)
	bad.lines[0].lost = 4
	if o := find(t, judge([]table{bad}, nil), "to unbound"); o.verdict() != "**missed**" || !strings.Contains(o.remark, "lost") {
		t.Errorf("who loses queries has not reached anything: %+v", o)
	}
	for _, c := range []struct {
		entry, hits float64
		want        string
	}{{299, 100, "met"}, {301, 100, "**missed**"}, {200, 90, "**missed**"}} {
		if o := find(t, judge(nil, []memory{{name: ours, entry: c.entry, hits: c.hits}}), "memory"); o.verdict() != c.want {
			t.Errorf("%+v: %+v", c, o)
		}
	}
	if l := judge(nil, nil); len(l) != 0 {
		t.Errorf("nothing was measured, but %v", l)
	}
}

// Each goal is about a row, a mode and servers that exist.
func TestGoalsAreMeasured(t *testing.T) {
	for _, g := range goals {
		found := 0
		for _, r := range rows {
			if r.name != g.row {
				continue
			}
			for _, m := range r.modes {
				if m == g.mode {
					found++
				}
			}
			for _, s := range r.servers {
				if s.name == g.peer || s.name == g.server {
					found++
				}
			}
		}
		want := 2
		if g.server != "" {
			want = 3
		}
		if found != want {
			t.Errorf("%+v is never measured", g)
		}
	}
}

func TestMarkdown(t *testing.T) {
	text := cached(3, 6, 3.9).markdown()
	for _, want := range []string{
		"### Cached: saturating load\n",
		"| unbound | 6.00 | 0.00 | 1.54 |",
		"| resolverd: the answerer alone | 3.90 |",
		"the floor uses 0.50 of unbound's CPU and counts",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	columns(t, text)
	sweepTables := rateTables()
	text = rowMarkdown(sweepTables)
	if want := "| unbound | 6.0 | - |"; !strings.Contains(text, want) {
		t.Errorf("no %q in:\n%s", want, text)
	}
	columns(t, text)
	rep := report{
		machine: "m", versions: []string{"unbound 1"}, options: options{rounds: 5, seconds: 3, entries: 1_000_000},
		tables: append([]table{cached(3, 6, 3.9)}, sweepTables...), memory: []memory{{name: ours, entry: 250, again: 0.5, hits: 100}},
		configs: []string{"unbound -d"}, plots: []string{"cached-cpu.svg"},
	}
	text = rep.markdown()
	for _, want := range []string{"1,000,000 cached", "![cached-cpu](bench/cached-cpu.svg)", "Goals: 4 of 4 met", "gen -s 127.0.0.1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	columns(t, text)
}

// columns holds all lines of a Markdown table to one number of cells.
func columns(t *testing.T, text string) {
	t.Helper()
	before := 0
	for _, l := range strings.Split(text, "\n") {
		n := 0
		if strings.HasPrefix(l, "|") {
			n = strings.Count(l, "|")
		}
		if n != 0 && before != 0 && n != before {
			t.Errorf("%d cells after %d: %s", n, before, l)
		}
		before = n
	}
}

func rateTables() []table {
	return []table{
		{row: "cached", title: "Cached", mode: sweep, pace: 1000, lines: []line{
			{ours, sample{cpu: 5, p99: 40}}, {"unbound", sample{cpu: 6, p99: 50}},
		}},
		{row: "cached", title: "Cached", mode: sweep, pace: 200_000, lines: []line{{ours, sample{cpu: 4, p99: 900}}}},
	}
}

func TestSection(t *testing.T) {
	got, err := section("a\n"+beginMark+"old\n"+endMark+"b\n", "new\n")
	if want := "a\n" + beginMark + "new\n" + endMark + "b\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", beginMark, endMark} {
		if _, err := section(bad, "new"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestPlots(t *testing.T) {
	dir := t.TempDir()
	files, err := drawAll(dir, append([]table{cached(3, 6, 3.9)}, rateTables()...))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("files %v", files)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, f, string(text))
	}
	wellFormed(t, "no points", drawLines("<a & b>", "x", "y", []series{{name: "n", x: []float64{0}, y: []float64{1}}}))
	wellFormed(t, "one point", drawLines("one", "x", "y", []series{{name: "n", x: []float64{1}, y: []float64{1}}}))
	wellFormed(t, "no bars", drawBars("none", []table{{lines: []line{{name: "a<b"}}}}))
}

func wellFormed(t *testing.T, name, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	n := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := tok.(xml.StartElement); ok {
			n++
		}
	}
	if n < 3 || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Errorf("%s: %d elements:\n%s", name, n, text)
	}
}

func TestRoundUp(t *testing.T) {
	for in, want := range map[float64]float64{0: 1, 0.3: 0.5, 1: 1, 1.2: 2, 300: 500, 501: 1000} {
		if got := roundUp(in); math.Abs(got-want) > 1e-9 {
			t.Errorf("roundUp(%v) = %v, want %v", in, got, want)
		}
	}
}

func TestEvenRate(t *testing.T) {
	top := map[string]float64{ours: 300, oursChurn: 250, "unbound": 200, "coredns": 50}
	if got := evenRate("cached", top); got != 100 {
		t.Errorf("%d queries/s, want half of unbound's", got)
	}
	if got := evenRate("forwarded", top); got != 125 {
		t.Errorf("%d queries/s, want half of our own with changes", got)
	}
	if got := evenRate("cached", nil); got != pacedRate {
		t.Errorf("%d queries/s where nothing is known", got)
	}
}
