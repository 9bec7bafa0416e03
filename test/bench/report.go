package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// table is a row in one mode.
type table struct {
	row, title string
	mode       mode
	pace       int // queries/s, with mode rates
	lines      []line
}

// line is one server's medians.
type line struct {
	name string
	sample
}

func (t table) find(name string) (sample, bool) {
	for _, l := range t.lines {
		if l.name == name {
			return l.sample, true
		}
	}
	return sample{}, false
}

func (m mode) title() string {
	return map[mode]string{
		saturated: "saturating load", byDnsperf: "dnsperf", paced: thousands(pacedRate) + " queries/s",
		half: "half of each server's top rate", even: "one rate for all", sweep: "by rate",
	}[m]
}

// markdown is the table of all modes but rates.
func (t table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n", t.title, t.mode.title())
	b.WriteString("| server | CPU us/query | of it user | ratio | queries/s | p50 us | p99 us | p99.9 us | RSS MiB | lost % | wrong % |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	base, _ := t.find(ours)
	for _, l := range t.lines {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %s | %.0f | %s | %s | %s | %.0f | %.2f | %.2f |\n", l.name, l.cpu, l.user,
			ratio(l.cpu, base.cpu), l.rate, known(l.p50), known(l.p99), known(l.p999), l.rss, l.lost, l.wrong)
		if l.part > 0 {
			fmt.Fprintf(&b, "| %s: the answerer alone | %.2f | | %s | | | | | | | |\n", l.name, l.part, ratio(l.part, base.cpu))
		}
	}
	if share := shareOfFloor([]table{t}); share > 0 {
		fmt.Fprintf(&b, "\nFloor: %s.\n", floorRemark(share))
	}
	return b.String()
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func known(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", f)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rowMarkdown is all tables of a row; those of mode rates become two, with a column for
// each rate.
func rowMarkdown(tables []table) string {
	var b strings.Builder
	var rates []table
	for _, t := range tables {
		if t.mode == sweep {
			rates = append(rates, t)
			continue
		}
		b.WriteString(t.markdown() + "\n")
	}
	if len(rates) == 0 {
		return b.String()
	}
	for _, f := range []struct {
		what string
		of   func(sample) float64
	}{{"CPU us/query", func(s sample) float64 { return s.cpu }}, {"p99 us", func(s sample) float64 { return s.p99 }}} {
		fmt.Fprintf(&b, "### %s: %s by rate\n\n| server |", rates[0].title, f.what)
		for _, t := range rates {
			fmt.Fprintf(&b, " %s/s |", thousands(t.pace))
		}
		b.WriteString("\n|" + strings.Repeat("---|", len(rates)+1) + "\n")
		for _, l := range rates[0].lines {
			fmt.Fprintf(&b, "| %s |", l.name)
			for _, t := range rates {
				s, ok := t.find(l.name)
				if !ok {
					b.WriteString(" - |")
					continue
				}
				fmt.Fprintf(&b, " %.1f |", f.of(s))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// report is the section of docs/benchmarks.md.
type report struct {
	machine  string
	versions []string
	options  options
	tables   []table
	memory   []memory
	configs  []string // command lines
	plots    []string // file names in bench/
	took     time.Duration
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Machine: %s.\n\nVersions: %s.\n\n", r.machine, strings.Join(r.versions, ", "))
	fmt.Fprintf(&b, "Medians of %d interleaved rounds of %g s each, on loopback; the run took %s. CPU is user and\n"+
		"system time of the server's whole process tree; ratio is to resolverd in the same run. Lost is\n"+
		"of the queries sent; wrong is of the answers: another RCODE than NOERROR, empty or truncated.\n\n", r.options.rounds, r.options.seconds, r.took.Round(time.Second))
	b.WriteString(goalsMarkdown(judge(r.tables, r.memory)) + "\n")
	for _, p := range r.plots {
		fmt.Fprintf(&b, "![%s](bench/%s)\n\n", strings.TrimSuffix(p, ".svg"), p)
	}
	for len(r.tables) > 0 {
		n := slices.IndexFunc(r.tables, func(t table) bool { return t.row != r.tables[0].row })
		if n < 0 {
			n = len(r.tables)
		}
		b.WriteString(rowMarkdown(r.tables[:n]))
		r.tables = r.tables[n:]
	}
	if len(r.memory) > 0 {
		b.WriteString(memoryMarkdown(r.memory, r.options.entries) + "\n")
	}
	b.WriteString("### Commands\n\n```\n")
	file := load{port: 5400, file: "queries", window: 192, seconds: r.options.seconds}
	fmt.Fprintf(&b, "gen %s\n", strings.Join(file.args(), " "))
	fmt.Fprintf(&b, "dnsperf %s\n", strings.Join(file.perfArgs(), " "))
	file.rate = pacedRate
	fmt.Fprintf(&b, "gen %s\n\n", strings.Join(file.args(), " "))
	for _, c := range r.configs {
		b.WriteString(c + "\n")
	}
	b.WriteString("```\n\nThe Corefile of resolverd:\n\n```\n" + corefile(place{port: 5400, metrics: "127.0.0.1:5600"}, "cache 86400") + "```\n")
	return b.String()
}

const beginMark, endMark = "<!-- make bench: begin -->\n", "<!-- make bench: end -->\n"

// replaceSection puts the text between the marks of a Markdown file.
func replaceSection(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	whole, err := section(string(old), text)
	if err != nil {
		return fmt.Errorf("bench: %s: %w", file, err)
	}
	return os.WriteFile(file, []byte(whole), 0o644)
}

func section(old, text string) (string, error) {
	head, rest, ok := strings.Cut(old, beginMark)
	_, foot, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", errors.New("no section between the marks of make bench")
	}
	return head + beginMark + text + endMark + foot, nil
}

// roundUp is the next of 1, 2, 5, 10, 20 and so on.
func roundUp(f float64) float64 {
	if f <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(f)))
	for _, k := range []float64{1, 2, 5} {
		if f <= k*p {
			return k * p
		}
	}
	return 10 * p
}
