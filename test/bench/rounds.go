package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// subject is a server that runs.
type subject struct {
	server
	process *process
	place   place
	queries string // file
}

// row measures one row in all of its modes: for each mode, rounds in which the servers
// take turns.
func (b *bench) row(r row) ([]table, error) {
	first := len(b.running)
	defer func() { b.stop(first) }()
	subjects, err := b.startAll(r)
	if err != nil || len(subjects) == 0 {
		return nil, err
	}
	var tables []table
	top := make(map[string]float64) // queries/s by server
	for _, m := range r.modes {
		if !chosen(b.modes, string(m)) {
			continue
		}
		if m == half || m == even {
			if err := b.findTops(r, subjects, top); err != nil {
				return nil, err
			}
		}
		if m == sweep {
			ts, err := b.sweep(r, subjects)
			if err != nil {
				return nil, err
			}
			tables = append(tables, ts...)
			continue
		}
		in := subjects
		if m == even {
			rate := float64(evenRate(r.name, top))
			in = slices.DeleteFunc(slices.Clone(subjects), func(s *subject) bool { return top[s.name] <= rate })
		}
		t, err := b.interleave(r, m, in, func(s *subject) int {
			switch m {
			case paced:
				return pacedRate
			case half:
				return int(top[s.name] / 2)
			case even:
				return evenRate(r.name, top)
			}
			return 0
		})
		if err != nil {
			return nil, err
		}
		for _, l := range t.lines {
			if m == saturated {
				top[l.name] = l.rate
			}
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// findTops measures the top rate of servers that mode saturated did not run for.
func (b *bench) findTops(r row, subjects []*subject, top map[string]float64) error {
	for _, s := range subjects {
		if top[s.name] > 0 {
			continue
		}
		x, err := b.insist(r, saturated, s, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		top[s.name] = x.rate
	}
	return nil
}

// sweep measures at growing rates; a server is out when it loses more than 2 in 100, or
// when the generator beside it does not reach 9 in 10 of the rate.
func (b *bench) sweep(r row, subjects []*subject) ([]table, error) {
	var tables []table
	in := make([]*subject, 0, len(subjects))
	for _, s := range subjects {
		if !s.few {
			in = append(in, s)
		}
	}
	for _, rate := range sweepRates {
		t, err := b.interleave(r, sweep, in, func(*subject) int { return rate })
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
		var left []*subject
		for i, s := range in {
			if l := t.lines[i]; l.lost < 2 && l.rate > 0.9*float64(rate) {
				left = append(left, s)
			}
		}
		if in = left; len(in) == 0 {
			break
		}
	}
	return tables, nil
}

func (b *bench) interleave(r row, m mode, subjects []*subject, rate func(*subject) int) (table, error) {
	t := table{row: r.name, title: r.title, mode: m}
	samples := make([][]sample, len(subjects))
	for range b.rounds {
		for i, s := range subjects {
			x, err := b.insist(r, m, s, rate(s))
			if err != nil {
				return t, fmt.Errorf("%s: %s: %w", m, s.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s %s %s: %.2f us/query, %.0f queries/s, p99 %.0f us\n", r.name, m, s.name, x.cpu, x.rate, x.p99)
			samples[i] = append(samples[i], x)
		}
	}
	for i, s := range subjects {
		t.lines = append(t.lines, line{name: s.name, sample: medians(samples[i])})
		if m == sweep {
			t.pace = rate(s)
		}
	}
	return t, nil
}

// insist measures up to three times: a machine that is busy for a moment does not end a
// whole run.
func (b *bench) insist(r row, m mode, s *subject, rate int) (sample, error) {
	for n := 1; ; n++ {
		x, err := b.measure(r, m, s, rate)
		if err == nil || n == 3 || b.ctx.Err() != nil {
			return x, err
		}
		fmt.Fprintf(os.Stderr, "bench: %s %s %s: again: %v\n", r.name, m, s.name, err)
	}
}

// measure puts one load on one server.
func (b *bench) measure(r row, m mode, s *subject, rate int) (sample, error) {
	l := load{port: s.place.port, file: s.queries, window: r.window, rate: rate, seconds: b.seconds, edns: r.edns}
	if m == sweep {
		// Ten thousand queries, so that the clock's ticks of 10 ms tell something.
		l.seconds = min(b.seconds, max(b.seconds/3, 10_000/float64(rate)))
	}
	run := b.gen
	if m == byDnsperf {
		run = b.dnsperf
	}
	if r.once {
		l.unique = rand.Uint64() | 1
		if m == byDnsperf { // it has to be told each name; at 60,000/s they do not come twice
			l.unique = 0
			l.file = filepath.Join(s.place.dir, "once")
			if err := writeQueries(l.file, r, s.zone, int(60_000*l.seconds)); err != nil {
				return sample{}, err
			}
		}
	}
	if s.churn {
		c := startChurn(b.ctx, s.place.api, churnRate)
		began := time.Now()
		inner := run
		run = func(l load) (reply, error) {
			out, err := inner(l)
			if made := float64(c.end()) / time.Since(began).Seconds(); err == nil && made < churnRate/2 {
				err = fmt.Errorf("the registry took %.0f changes a second, not %d", made, churnRate)
			}
			return out, err
		}
		defer c.end()
	}
	before, part, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	out, err := run(l)
	if err != nil {
		return sample{}, err
	}
	after, partAfter, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	x := newSample(out, before, after)
	x.part = micros(partAfter.total()-part.total(), out.Answered)
	return x, nil
}

// usage is of the whole tree, and of the part that answers.
func (s *subject) usage() (all, part usage, err error) {
	if all, err = treeUsage(s.process.pid(), ""); err == nil && s.part != "" {
		part, err = treeUsage(s.process.pid(), s.part)
	}
	return all, part, err
}

// startAll starts the row's servers, those that are installed and chosen, and asks each
// for every name once where that fills its cache.
func (b *bench) startAll(r row) ([]*subject, error) {
	var l []*subject
	byName := make(map[string]*subject)
	for i, sv := range r.servers {
		if !chosen(b.servers, sv.name) {
			continue
		}
		s := &subject{server: sv}
		if of := byName[sv.of]; sv.of != "" && of != nil {
			s.process, s.place, s.queries = of.process, of.place, of.queries
			l = append(l, s)
			continue
		} else if sv.of != "" {
			for _, o := range r.servers {
				if o.name == sv.of {
					s.start, s.fill = o.start, o.fill
				}
			}
		}
		ok, err := b.start(s, filepath.Join(b.dir, r.name, fmt.Sprint(i)), i, names)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if !ok {
			fmt.Fprintf(os.Stderr, "bench: %s is not installed, left out\n", s.name)
			continue
		}
		byName[s.name] = s
		s.queries = filepath.Join(s.place.dir, "queries")
		if err := writeQueries(s.queries, r, s.zone, 0); err != nil {
			return nil, err
		}
		if !r.once {
			for range 2 { // a second time for what the first may have lost
				if _, err := b.gen(load{port: s.place.port, file: s.queries, window: 32, count: names, edns: r.edns}); err != nil {
					return nil, fmt.Errorf("%s: warm: %w", s.name, err)
				}
			}
		}
		l = append(l, s)
	}
	return l, nil
}

// start starts one server; it returns false where the program is not installed.
func (b *bench) start(s *subject, dir string, number, cache int) (bool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	s.place = place{
		dir: dir, port: 5400 + number, cache: cache,
		api: fmt.Sprintf("127.0.0.1:%d", 5500+number), metrics: fmt.Sprintf("127.0.0.1:%d", 5600+number),
	}
	args, err := s.start(s.place)
	if err != nil {
		return false, err
	}
	if args[0] == "" {
		return false, nil
	}
	row := filepath.Base(filepath.Dir(dir))
	b.started[row] = append(b.started[row], strings.Join(append([]string{filepath.Base(args[0])}, args[1:]...), " "))
	if s.process, err = b.spawn(dir, net.JoinHostPort("127.0.0.1", fmt.Sprint(s.place.port)), s.loud, args...); err != nil {
		return false, err
	}
	if s.fill {
		err = b.fill(s.place.api)
	}
	return true, err
}

func writeQueries(file string, r row, zone string, many int) error {
	var q bytes.Buffer
	r.queries(&q, zone, many)
	return os.WriteFile(file, q.Bytes(), 0o600)
}

// commands lists how the row's servers were started, without the run's directory.
func (b *bench) commands(r row) []string {
	var l []string
	for _, p := range b.started[r.name] {
		l = append(l, strings.ReplaceAll(p, filepath.Join(b.dir, r.name), "DIR"))
	}
	return l
}
