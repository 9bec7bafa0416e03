package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one run of the command.
type bench struct {
	ctx     context.Context // ends the run; a command's context is the program's
	dir     string
	rounds  int
	load    time.Duration
	running []*exec.Cmd
}

// result is what one server did in one round.
type result struct {
	cpu  float64 // microseconds of server CPU per answered query
	qps  float64
	lost int
}

// table is a row's outcome.
type table struct {
	title string
	names []string
	cpu   []float64 // medians
	qps   []float64
	lost  []int
}

func (b *bench) row(r row) (table, error) {
	t := table{title: r.title}
	first := len(b.running)
	defer func() {
		own := &bench{running: slices.Clone(b.running[first:])}
		own.stopAll()
		b.running = b.running[:first]
	}()
	pids, files := make([]int, len(r.servers)), make([]string, len(r.servers))
	for i, s := range r.servers {
		dir := filepath.Join(b.dir, r.name, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return t, err
		}
		args, err := s.start(dir, s.addr)
		if err != nil {
			return t, err
		}
		c, err := b.spawn(s.addr, args...)
		if err != nil {
			return t, err
		}
		if s.fill != nil {
			if err := b.fill(s); err != nil {
				return t, err
			}
		}
		pids[i] = c.Process.Pid
		files[i] = filepath.Join(dir, "queries")
		var q bytes.Buffer
		if r.queries != nil {
			r.queries(&q)
		} else {
			zone := map[string]string{"resolverd": "internal", "consul 1.13": "consul"}[s.name]
			for n := range services {
				fmt.Fprintf(&q, "s%d.service.%s A\n", n, zone)
			}
		}
		if err := os.WriteFile(files[i], q.Bytes(), 0o600); err != nil {
			return t, err
		}
		if r.warm {
			if _, err := b.dnsperf(s.addr, files[i], "-n", "2"); err != nil {
				return t, err
			}
		}
	}
	results := make([][]result, len(r.servers))
	for range b.rounds {
		for i, s := range r.servers {
			res, err := b.measure(pids[i], s.addr, files[i])
			if err != nil {
				return t, fmt.Errorf("%s: %w", s.name, err)
			}
			results[i] = append(results[i], res)
		}
	}
	for i, s := range r.servers {
		t.names = append(t.names, s.name)
		t.cpu = append(t.cpu, median(results[i], func(r result) float64 { return r.cpu }))
		t.qps = append(t.qps, median(results[i], func(r result) float64 { return r.qps }))
		lost := 0
		for _, x := range results[i] {
			lost += x.lost
		}
		t.lost = append(t.lost, lost)
	}
	return t, nil
}

// fill tries until the server's API is up.
func (b *bench) fill(s server) error {
	ctx, cancel := context.WithTimeout(b.ctx, 60*time.Second)
	defer cancel()
	for {
		err := s.fill()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (b *bench) measure(pid int, addr, file string) (result, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return result{}, err
	}
	out, err := b.dnsperf(addr, file, "-l", fmt.Sprint(int(b.load.Seconds())))
	if err != nil {
		return result{}, err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return result{}, err
	}
	done, lost := number(out, `Queries completed:\s+(\d+)`), number(out, `Queries lost:\s+(\d+)`)
	if done == 0 {
		return result{}, fmt.Errorf("dnsperf completed no query:\n%s", out)
	}
	return result{
		cpu: float64((after - before).Microseconds()) / done,
		qps: number(out, `Queries per second:\s+([\d.]+)`), lost: int(lost),
	}, nil
}

func (b *bench) dnsperf(addr, file string, bound ...string) (string, error) {
	host, port, _ := strings.Cut(addr, ":")
	args := append([]string{"-s", host, "-p", port, "-d", file, "-c", "8", "-q", "200", "-t", "2"}, bound...)
	out, err := exec.CommandContext(b.ctx, "dnsperf", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	return string(out), nil
}

func number(text, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return f
}

// cpuTime returns user and system time of a process and all of its descendants.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	total := time.Duration(user+system) * (time.Second / 100) // USER_HZ
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range tasks {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		for _, c := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(c)
			d, err := cpuTime(child)
			if err != nil {
				continue
			}
			total += d
		}
	}
	return total, nil
}

func median(rs []result, f func(result) float64) float64 {
	var v []float64
	for _, r := range rs {
		v = append(v, f(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (t table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| server | CPU us/query | ratio to resolverd | queries/s | lost |\n|---|---|---|---|---|\n", t.title)
	for i, n := range t.names {
		fmt.Fprintf(&b, "| %s | %.1f | %.2f | %.0f | %d |\n", n, t.cpu[i], t.cpu[i]/t.cpu[0], t.qps[i], t.lost[i])
	}
	return b.String()
}

func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*:\s*(.+)`).FindSubmatch(b); m != nil {
			model = string(m[1])
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}

const beginMark, endMark = "<!-- make bench: begin -->\n", "<!-- make bench: end -->\n"

// replaceSection puts the tables between the marks of a Markdown file.
func replaceSection(file string, tables []table, on string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), beginMark)
	_, foot, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no section between %q and %q", file, beginMark, endMark)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%sMachine: %s. %s\n\n", head, beginMark, on, "Medians of interleaved rounds, dnsperf -c 8 -q 200 on loopback.")
	for _, t := range tables {
		b.WriteString(t.markdown() + "\n")
	}
	b.WriteString(endMark + foot)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
